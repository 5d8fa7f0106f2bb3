"""Two folders trade places in one step, while no other process does the same."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# linux/fcntl.h and linux/fs.h
_HERE = -100
_EXCHANGE = 2


def swap(one: Path, other: Path) -> bool:
    """Exchanges two folders of one file system; False, with nothing done, where the system cannot."""
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "renameat2"):
        return False
    status: int = library.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)
    return status == 0


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """A block that no other process is in for the same folder. A process that ends, however, leaves it.

    Systems and file systems without such locks let everybody in.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
