"""Workers end with the process that they work for, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

# Each worker says who it is and then works for a minute.
WORK = """
import os, sys, time
from pathlib import Path

def work(*arguments):
    (Path(sys.argv[1]) / str(os.getpid())).touch()
    time.sleep(60)
"""
SCAN = (
    WORK
    + """
from fusegen.codegen.pipeline import _in_processes
list(_in_processes(work, None, [f"models/x{number}/modeling_x.py" for number in range(64)], {}, 2))
"""
)
VERIFY = (
    WORK
    + """
from fusegen.verify.pool import in_own_processes
list(in_own_processes(work, range(4), jobs=2, timeout=60, name=str))
"""
)
# The command itself, with workers that never come to an end.
COMMAND = (
    WORK
    + """
from fusegen.cli import cli, main
from fusegen.codegen import pipeline
pipeline._read_chunk = work
scan = ["scan", "--source", sys.argv[2], "--no-cache", "--jobs", "2"]
run = cli.main
cli.main = lambda **options: run(scan, **options)
main()
"""
)


def until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that nobody has waited for is over all the same.
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("program", [SCAN, VERIFY, COMMAND], ids=["scan", "verify", "command"])
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_workers_end_with_their_parent(
    program: str, ending: signal.Signals, tmp_path: Path, write_tree: Callable[..., Path]
) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    tree = write_tree(
        {f"models/x{number}/modeling_x{number}.py": "labels" for number in range(32)} | {"__init__.py": ""}
    )
    with subprocess.Popen([sys.executable, "-c", program, pids, tree], stderr=subprocess.PIPE, text=True) as parent:
        assert until(lambda: len(list(pids.iterdir())) == 2)
        workers = [int(path.name) for path in pids.iterdir()]
        parent.send_signal(ending)
        assert until(lambda: not any(map(is_running, workers)))
        assert until(lambda: parent.poll() is not None)
        assert parent.stderr is not None
        said = parent.stderr.read()
    if program is COMMAND and ending is signal.SIGINT:
        assert (parent.returncode, said) == (130, "\nInterrupted.\n")


def test_an_interrupt_of_the_whole_terminal_is_said_once(tmp_path: Path, write_tree: Callable[..., Path]) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    tree = write_tree(
        {f"models/x{number}/modeling_x{number}.py": "labels" for number in range(32)} | {"__init__.py": ""}
    )
    command = [sys.executable, "-c", COMMAND, pids, tree]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert until(lambda: len(list(pids.iterdir())) == 2)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stderr is not None
        assert parent.stderr.read() == "\nInterrupted.\n"
    assert parent.returncode == 130
    assert not any(is_running(int(path.name)) for path in pids.iterdir())
