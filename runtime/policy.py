"""When to fuse: `training` (the default), `always` or `never`.

    with fused(fuse="never"):        this block of this thread
        model(**batch, labels=labels)
    install(fuse="always")           the process
    FUSEGEN_FUSE=never python ...    the process, where nothing above says otherwise

In evaluation with labels, `training` leaves the original path alone, so that metrics find their logits.

Under `torch.compile` a changed policy compiles anew, as every attribute that is read here is guarded. A
`ContextVar` would not be, nor an attribute that a class of thread-locals has by default.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from fusegen.contract.policy import ENVIRONMENT, checked_choice
from fusegen.runtime import reasons
from fusegen.runtime.checkpoints import told


class Policy:
    """One choice for the process and one for the thread, which wins.

    The environment is read when the policy is made, by `settle` and by `set(None)`.
    """

    def __init__(self) -> None:
        self._thread = threading.local()
        self.set(None)

    @property
    def fuse(self) -> str:
        """The choice in force: of the block, of `install`, of the environment, `training`. May raise `ValueError`."""
        return self.of_block or checked_choice(self._process, ENVIRONMENT)

    @property
    def of_block(self) -> str | None:
        """The choice of the block that this thread is in, None outside of any."""
        return getattr(self._thread, "fuse", None)

    @property
    def chosen(self) -> str | None:
        """The choice for the process, as it was made."""
        return self._chosen

    def set(self, fuse: str | None) -> None:
        """The choice for the process; None goes back to the environment's. Raises `ValueError`."""
        self._chosen = checked_choice(fuse, "fuse") if fuse else None
        self._process = self._chosen or os.environ.get(ENVIRONMENT) or "training"

    def foreseen(self, fuse: str | None) -> str:
        """What `settle` would leave in force for the process. Raises `ValueError`."""
        if fuse:
            return checked_choice(fuse, "fuse")
        return self._chosen or checked_choice(os.environ.get(ENVIRONMENT) or "training", ENVIRONMENT)

    def settle(self, fuse: str | None) -> None:
        """A choice for the process; None: the one that was made, or else the environment's of now."""
        self._process = self.foreseen(fuse)
        self._chosen = fuse or self._chosen

    def refusal(self, training: bool) -> str | None:
        """The code of why a module in training (or not) must not take the fused path now, or None."""
        fuse = self.fuse
        if fuse == "never" or (fuse == "training" and not training):
            return reasons.POLICY
        return reasons.TUPLE if getattr(self._thread, "tuples", None) else None

    def override(self, fuse: str) -> AbstractContextManager[None]:
        """The choice for a block, and for what its checkpoints compute again; other threads keep theirs.

        Raises:
            ValueError: no choice.
        """
        return self._override(checked_choice(fuse, "fuse"))

    @contextmanager
    def _override(self, fuse: str) -> Iterator[None]:
        # A compiler traces what is computed again together with the forward.
        with self._held("fuse", fuse), nullcontext() if torch.compiler.is_compiling() else told(self._carried):
            yield

    def _carried(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that runs under the choice of the block of this thread, wherever it is called."""
        fuse = self.of_block
        if fuse is None:
            return function

        def carried(*args: Any, **kwargs: Any) -> Any:
            with self.override(fuse):
                return function(*args, **kwargs)

        return carried

    def whole_tuples(self) -> AbstractContextManager[None]:
        """A block in which nothing is fused, since a tuple without its logits would have another order."""
        return self._held("tuples", True)

    @contextmanager
    def _held(self, name: str, value: str | bool) -> Iterator[None]:
        before = getattr(self._thread, name, None)
        setattr(self._thread, name, value)
        try:
            yield
        finally:
            setattr(self._thread, name, before)


policy = Policy()
