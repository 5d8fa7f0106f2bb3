"""When to fuse: `training` (the default), `always` or `never`.

    with fused(fuse="never"):        this block of this thread
        model(**batch, labels=labels)
    install(fuse="always")           the process
    FUSEGEN_FUSE=never python ...    the process, where nothing above says otherwise

In evaluation with labels, `training` leaves the original path alone, so that metrics find their logits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

CHOICES = ("training", "always", "never")
ENVIRONMENT = "FUSEGEN_FUSE"


class Policy:
    """One choice for the process and one for the current context, which wins.

    The environment is read once, at the first use.
    """

    def __init__(self) -> None:
        self._process: str | None = None
        self._context: ContextVar[str | None] = ContextVar("fusegen_fuse", default=None)

    @property
    def fuse(self) -> str:
        """The choice in force: of the context, of `install`, of the environment, `training`."""
        if self._process is None:
            self._process = checked_choice(os.environ.get(ENVIRONMENT) or "training", ENVIRONMENT)
        return self._context.get() or self._process

    def set(self, fuse: str | None) -> None:
        """The choice for the process; None goes back to the environment's. Raises `ValueError`."""
        self._process = fuse and checked_choice(fuse, "fuse")

    def allows(self, training: bool) -> bool:
        """Whether a module in training (or not) may take the fused path."""
        fuse = self.fuse
        return training if fuse == "training" else fuse == "always"

    @contextmanager
    def override(self, fuse: str) -> Iterator[None]:
        """The choice for a block; other threads keep theirs. Raises `ValueError`."""
        token = self._context.set(checked_choice(fuse, "fuse"))
        try:
            yield
        finally:
            self._context.reset(token)


def checked_choice(fuse: str, name: str) -> str:
    """`fuse` itself; raises `ValueError`, naming the setting, if it is no choice."""
    if fuse not in CHOICES:
        raise ValueError(f"{name}: expected one of {', '.join(CHOICES)}, got {fuse!r}")
    return fuse


policy = Policy()
