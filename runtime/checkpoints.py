"""A checkpoint that is made in a block computes again under the policy of the block.

    with fused(fuse="never"):
        loss = checkpoint(step, batch, use_reentrant=False)
    loss.backward()                       # step runs again, after the block and maybe in another thread

Else what it computes again would be saved otherwise than what the forward computed, which torch makes an error.
Both forms of `torch.utils.checkpoint` keep the function in a class of theirs, which sees every use of them, by
whatever name; it is told about the policy while there is a block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from torch.utils import checkpoint

# The first argument of each, after self or ctx, is what is computed again.
_KEEPERS = (("_CheckpointFrame", "__init__"), ("CheckpointFunction", "forward"))

Carry = Callable[[Callable[..., Any]], Callable[..., Any]]

_lock = threading.Lock()
_blocks = 0
_originals: list[tuple[type, str, Any]] = []


@contextmanager
def told(carry: Carry) -> Iterator[None]:
    """A block in which `carry` makes, of each function that a checkpoint keeps, the one that it keeps instead."""
    global _blocks
    with _lock:
        _blocks += 1
        if _blocks == 1:
            _tell(carry)
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            while not _blocks and _originals:
                setattr(*_originals.pop())


def _tell(carry: Carry) -> None:
    for keeper, method in _KEEPERS:
        cls = getattr(checkpoint, keeper, None)
        if isinstance(cls, type) and method in vars(cls):
            _originals.append((cls, method, vars(cls)[method]))
            setattr(cls, method, _carrying(vars(cls)[method], carry))


def _carrying(original: Any, carry: Carry) -> Any:
    function = original.__func__ if isinstance(original, staticmethod) else original

    @wraps(function)
    def kept(owner: Any, computed: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(owner, carry(computed), *args, **kwargs)

    return staticmethod(kept) if isinstance(original, staticmethod) else kept
