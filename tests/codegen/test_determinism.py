"""The same bytes from run to run, whatever the process, its environment and the file system are like."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fusegen.codegen.sources import SourceError, open_source

RUN = "from fusegen.cli import main; main()"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
EVERY = 18
# Its forward has letters beyond ASCII.
JAPANESE = "models/gpt_neox_japanese/modeling_gpt_neox_japanese.py"

RUNS = {
    "other seed": ({"PYTHONHASHSEED": "1"}, 1, False),
    "random seed, processes": ({"PYTHONHASHSEED": "random"}, 3, False),
    "ASCII only, other order of files": ({"PYTHONHASHSEED": "2"} | ASCII, 1, True),
    "ASCII only, processes": ({"PYTHONHASHSEED": "3"} | ASCII, 2, False),
}


def part_of_the_installed_tree(root: Path, backwards: bool) -> Path:
    """Every so many modeling files of the installed transformers, put on disk in order or in the opposite one."""
    try:
        source = open_source("installed")
    except SourceError as error:
        pytest.skip(str(error))
    names = [*{*source.paths()[::EVERY], JAPANESE}, "loss/loss_utils.py", "__init__.py"]
    for name in sorted(names, reverse=backwards):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.location / name, root / name)
    return root


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, bytes]]:
    """Runs `fusegen emit` in a process of its own and gives what it wrote."""
    folder = tmp_path_factory.mktemp("trees")
    trees = {backwards: part_of_the_installed_tree(folder / str(backwards), backwards) for backwards in (False, True)}

    def run(layout: str, environment: dict[str, str], jobs: int, backwards: bool) -> dict[str, bytes]:
        out = tmp_path_factory.mktemp("out") / "generated"
        options = ["--source", trees[backwards], "--out", out, "--jobs", jobs, "--layout", layout, "--no-cache"]
        command = [sys.executable, "-c", RUN, "emit", *map(str, options)]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | environment, cwd=out.parent)
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    return run


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["class", "full", "patch"])
def test_the_same_bytes_in_every_environment(emitted: Callable[..., dict[str, bytes]], layout: str) -> None:
    first = emitted(layout, {"PYTHONHASHSEED": "0"}, 1, False)
    assert sum("modeling_" in path for path in first) > 10
    assert layout == "patch" or any("modeling_" in path and not content.isascii() for path, content in first.items())
    runs = RUNS if layout == "class" else {"ASCII only, processes": RUNS["ASCII only, processes"]}
    for name, (environment, jobs, backwards) in runs.items():
        assert emitted(layout, environment, jobs, backwards) == first, name
