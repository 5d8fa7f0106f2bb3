"""A limit to what one function may take: without it, a dozen branches that nobody needs could hold up a whole tree.

with limited():  ...      raises `TookTooLong` inside, after more processor time than a whole release needs
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# The slowest function of transformers takes a hundredth of this.
SECONDS = 10.0


class TookTooLong(Exception):
    """A function that is not done after `SECONDS` of processor time."""

    def __init__(self) -> None:
        super().__init__(f"it takes more than {SECONDS:.0f} seconds to read: too many branches or operations meet")


@contextmanager
def limited() -> Iterator[None]:
    """Raises `TookTooLong` in the block where it takes too long; no limit outside of a main thread, or on Windows."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
