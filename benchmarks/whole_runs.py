"""What the benchmarks of whole commands share: one process a run, kinds of runs in turn, medians and targets."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from fusegen.codegen.sources import open_source

PARSE_KIND = "ast.parse"
PARSE = """
import ast, sys
from fusegen.codegen.sources import open_source
for file in open_source(sys.argv[1]).files():
    ast.parse(file.content)
"""
FUSEGEN = "from fusegen.cli import main; main()"


@dataclass(frozen=True)
class Run:
    """Seconds from start to end, seconds on processors of all its processes together, peak of the largest one."""

    seconds: float
    processor_seconds: float
    megabytes: float


@dataclass(frozen=True)
class Results:
    """The runs of each kind."""

    runs: dict[str, list[Run]]

    def seconds(self, kind: str) -> float:
        return statistics.median(run.seconds for run in self.runs[kind])

    def megabytes(self, kind: str) -> float:
        return max(run.megabytes for run in self.runs[kind])

    def share(self, kind: str) -> float:
        """How many times as long as parsing every file."""
        return self.seconds(kind) / self.seconds(PARSE_KIND)

    def show(self) -> None:
        for kind, runs in self.runs.items():
            spread = f"{min(run.seconds for run in runs):.2f} to {max(run.seconds for run in runs):.2f}"
            busy = statistics.median(run.processor_seconds for run in runs)
            print(
                f"  {kind:<11} {self.seconds(kind):6.2f} s  ({spread})  {self.share(kind):5.2f} x  "
                f"on processors {busy:5.2f} s  largest process {self.megabytes(kind):4.0f} MB"
            )


def options(description: str | None) -> argparse.Namespace:
    """`--source`, `--rounds` and `--jobs` of the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="installed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def describe(source_name: str, jobs: int) -> None:
    """Prints what is read, and by how many processes."""
    source = open_source(source_name)
    size = sum(len(file.content) for file in source.files()) / 1e6
    print(f"{source.package} {source.version}: {len(source.paths())} modeling files, {size:.1f} MB, {jobs} processes")


def alternate(kinds: dict[str, list[str]], warm_up: list[str], source_name: str, rounds: int) -> Results:
    """Runs each kind of command of fusegen, and a parse of every file, `rounds` times in turn.

    `warm_up` runs once before and fills the cache that they share. `{round}` in an argument is the number of the round.
    """
    commands = {PARSE_KIND: [PARSE, source_name]} | {kind: [FUSEGEN, *arguments] for kind, arguments in kinds.items()}
    runs: dict[str, list[Run]] = {kind: [] for kind in commands}
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"FUSEGEN_CACHE_DIR": cache}
        measure([FUSEGEN, *warm_up], environment)
        for number in range(rounds):
            for kind, command in commands.items():
                arguments = [argument.replace("{round}", str(number)) for argument in command]
                runs[kind].append(measure(arguments, environment))
    return Results(runs)


def measure(arguments: list[str], environment: dict[str, str]) -> Run:
    """Runs one process to its end. What it used is counted with its descendants."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", *arguments], stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments[1:]} ended with {process.returncode}")
    # Linux counts kilobytes here, macOS bytes.
    megabytes = usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return Run(seconds, usage.ru_utime + usage.ru_stime, megabytes)


def verdict(text: str, reached: bool) -> None:
    """Prints whether a target is reached."""
    print(f"  {'reached' if reached else 'MISSED '}  {text}")
