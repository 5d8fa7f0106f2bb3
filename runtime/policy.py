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
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from fusegen.contract.policy import ENVIRONMENT, checked_choice
from fusegen.runtime import reasons


class Policy:
    """One choice for the process and one for the thread, which wins.

    The environment is read when the policy is made, and again by `set(None)`.
    """

    def __init__(self) -> None:
        self._thread = threading.local()
        self.set(None)

    @property
    def fuse(self) -> str:
        """The choice in force: of the block, of `install`, of the environment, `training`. May raise `ValueError`."""
        return getattr(self._thread, "fuse", None) or checked_choice(self._process, ENVIRONMENT)

    @property
    def chosen(self) -> str:
        """The choice for the process, as it was made."""
        return self._process

    def set(self, fuse: str | None) -> None:
        """The choice for the process; None goes back to the environment's. Raises `ValueError`."""
        self._process = checked_choice(fuse, "fuse") if fuse else os.environ.get(ENVIRONMENT) or "training"

    def refusal(self, training: bool) -> str | None:
        """The code of why a module in training (or not) must not take the fused path now, or None."""
        fuse = self.fuse
        if fuse == "never" or (fuse == "training" and not training):
            return reasons.POLICY
        return reasons.TUPLE if getattr(self._thread, "tuples", None) else None

    def override(self, fuse: str) -> AbstractContextManager[None]:
        """The choice for a block; other threads keep theirs. Raises `ValueError`."""
        return self._held("fuse", checked_choice(fuse, "fuse"))

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
