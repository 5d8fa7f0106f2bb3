"""A process for each task, a few at a time: what one class breaks, hangs or patches ends with its process."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from fusegen.codegen.processes import end_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")
Progress = Callable[[int, int, tuple[str, ...]], None]
_PATIENCE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Died(Generic[Task]):
    """A task whose process gave no result, and why."""

    task: Task
    reason: str


@dataclass(frozen=True, slots=True)
class _Running(Generic[Task]):
    task: Task
    process: BaseProcess
    results: Connection
    deadline: float


def in_own_processes(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    jobs: int | None = None,
    timeout: float,
    name: Callable[[Task], str],
    progress: Progress | None = None,
) -> Iterator[Result | Died[Task]]:
    """`function(task)` for each task, as they end; at most `jobs` at a time (one per processor by default).

    Processes are forked where the system can: they find loaded what is loaded here, and what they change stays theirs.
    A task that takes longer than `timeout` seconds is ended.
    """
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    waiting, running, done = list(reversed(tasks)), [], 0  # type: list[Task], list[_Running[Task]], int
    try:
        while waiting or running:
            while waiting and len(running) < (jobs or os.cpu_count() or 1):
                running.append(_started(context, function, waiting.pop(), timeout))
            if progress is not None:
                progress(done, len(tasks), tuple(name(each.task) for each in running))
            wait([each.results for each in running], timeout=_PATIENCE_SECONDS)
            for each in [each for each in running if each.results.poll() or time.monotonic() > each.deadline]:
                running.remove(each)
                done += 1
                yield _result(each)
    finally:
        for each in running:
            _end(each)


def _started(context: Any, function: Callable[[Task], Result], task: Task, timeout: float) -> _Running[Task]:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, function, task), daemon=True)
    process.start()
    theirs.close()
    return _Running(task, process, ours, time.monotonic() + timeout)


def _work(results: Connection, function: Callable[[Task], Result], task: Task) -> None:
    end_with_parent()
    results.send(function(task))
    results.close()


def _result(each: _Running[Task]) -> Any:
    if not each.results.poll():
        _end(each)
        return Died(each.task, "took too long")
    try:
        result = each.results.recv()
    except EOFError:
        each.process.join()
        return Died(each.task, f"its process ended with exit status {each.process.exitcode}")
    each.process.join()
    return result


def _end(each: _Running[Task]) -> None:
    each.process.kill()
    each.process.join()
