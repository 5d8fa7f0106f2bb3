"""Processes that work for this one, and end with it, however it ends."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

# linux/prctl.h
_SIGNAL_AT_PARENTS_DEATH = 1

_POLL_SECONDS = 0.5


@contextmanager
def worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers end at once where the block is left by an exception, an interrupt among them."""
    # fork shares what is imported already; elsewhere processes start afresh.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=end_with_parent)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise
    pool.shutdown()


def end_with_parent(parent: int | None = None) -> None:
    """Ends this process when the one that it works for ends; to be called first in it.

    An interrupt from the keyboard reaches every process of a terminal: it is for the one that waits for the others.
    `parent` is the id of the other process where `multiprocessing` did not start this one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    started_by = multiprocessing.parent_process()
    parent = parent or (started_by.pid if started_by else None)
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SIGNAL_AT_PARENTS_DEATH, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    else:
        threading.Thread(target=_end_after, args=(parent, started_by), daemon=True).start()


def _end_after(parent: int, started_by: multiprocessing.process.BaseProcess | None) -> None:
    if started_by is not None:
        started_by.join()
    else:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
    os._exit(1)
