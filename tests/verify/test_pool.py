"""What one task does to its process is no other task's business."""

from __future__ import annotations

import os
import signal
import time

from fusegen.verify.pool import Died, in_own_processes


def _task(number: int) -> tuple[int, int]:
    if number == 1:
        os._exit(7)
    if number == 2:
        time.sleep(60)
    os.environ["TASK"] = str(number)
    return number, os.getpid()


def test_each_task_has_its_own_process_and_none_takes_another_down() -> None:
    seen = []
    results = list(
        in_own_processes(
            _task, range(5), jobs=2, timeout=1, name=str, progress=lambda done, total, names: seen.append((done, names))
        )
    )
    reasons = {died.task: died.reason for died in results if isinstance(died, Died)}
    assert reasons == {1: "its process ended with exit status 7", 2: "took too long"}
    answers = dict(each for each in results if not isinstance(each, Died))
    assert sorted(answers) == [0, 3, 4]
    assert len({os.getpid(), *answers.values()}) == 4
    assert "TASK" not in os.environ
    assert {name for _, names in seen for name in names} == {"0", "1", "2", "3", "4"}
    assert all(len(names) <= 2 for _, names in seen)


def _interrupted(number: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return number


def test_an_interrupt_is_for_the_process_that_waits() -> None:
    """Ctrl-C reaches all of a terminal; the one that started the others ends them, and they have nothing to say."""
    assert list(in_own_processes(_interrupted, [3], timeout=10, name=str)) == [3]
