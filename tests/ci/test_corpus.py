"""A small sample of the corpus that `make corpus` reads as a whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CORPUS = Path(__file__).parents[2] / "benchmarks" / "corpus.py"


def test_a_sample_ends_no_run() -> None:
    sample = ["--packages", "stdlib,jinja2", "--files", "12", "--seconds", "300"]
    done = subprocess.run([sys.executable, str(CORPUS), *sample], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "nothing crashed"
    assert [line.split()[1] for line in done.stdout.splitlines()[1:3]] == ["12", "12"]


def test_a_package_that_is_not_there_is_no_success() -> None:
    done = subprocess.run([sys.executable, str(CORPUS), "--packages", "no_such"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "no_such: is not installed" in done.stdout
