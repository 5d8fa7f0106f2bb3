"""Time and memory of `fusegen scan`, against one `ast.parse` of every modeling file in a single process.

    python benchmarks/scan.py [--source installed|PATH|WHEEL|VERSION] [--rounds 5]

Everything is a whole process, from start to printed report. The three kinds of run alternate, so that a
machine that slows down slows them all; the numbers are medians. The time of processors, of all processes
together, is what a machine that does other things as well disturbs least. Memory is the peak of the largest process,
and that times the number of processes: no more can have been in use at once.
"""

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

COLD_SHARE = 0.35
WARM_SECONDS = 0.6
MEMORY_MEGABYTES = 400

PARSE = """
import ast, sys
from fusegen.codegen.sources import open_source
for file in open_source(sys.argv[1]).files():
    ast.parse(file.content)
"""
SCAN = "from fusegen.cli import main; main()"


@dataclass(frozen=True)
class Run:
    seconds: float
    processor_seconds: float
    megabytes: float


def measure(arguments: list[str], environment: dict[str, str]) -> Run:
    """Runs one process to its end. Its memory is the peak of the largest among it and its descendants."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", *arguments], stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments[1:]} ended with {process.returncode}")
    # Linux counts kilobytes here, macOS bytes.
    return Run(
        seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    )


def alternate(kinds: dict[str, list[str]], rounds: int, environment: dict[str, str]) -> dict[str, list[Run]]:
    """Runs every kind once a round, so that a machine that slows down slows them all."""
    runs: dict[str, list[Run]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, arguments in kinds.items():
            runs[kind].append(measure(arguments, environment))
    return runs


def print_runs(runs: dict[str, list[Run]], unit: str) -> tuple[dict[str, float], dict[str, float]]:
    """A line for each kind, in multiples of the kind `unit`; gives median seconds and peak megabytes."""
    seconds = {kind: statistics.median(run.seconds for run in of) for kind, of in runs.items()}
    peak = {kind: max(run.megabytes for run in of) for kind, of in runs.items()}
    width = max(map(len, runs))
    for kind, of in runs.items():
        spread = f"{min(run.seconds for run in of):.2f} to {max(run.seconds for run in of):.2f}"
        share = f"{seconds[kind] / seconds[unit]:5.2f} x"
        busy = f"{statistics.median(run.processor_seconds for run in of):6.2f} s of processors"
        print(
            f"  {kind:<{width}} {seconds[kind]:6.2f} s  ({spread})  {share}{busy}  largest process {peak[kind]:4.0f} MB"
        )
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="installed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()

    source = open_source(options.source)
    paths = source.paths()
    size = sum(len(file.content) for file in source.files()) / 1e6
    print(f"{source.package} {source.version}: {len(paths)} modeling files, {size:.1f} MB, {options.jobs} processes")

    scan = [SCAN, "scan", "--quiet", "--source", options.source, "--jobs", str(options.jobs)]
    kinds = {"ast.parse": [PARSE, options.source], "scan, cold": [*scan, "--no-cache"], "scan, warm": scan}
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"FUSEGEN_CACHE_DIR": cache}
        measure(scan, environment)
        runs = alternate(kinds, options.rounds, environment)

    seconds, peak = print_runs(runs, "ast.parse")
    share = seconds["scan, cold"] / seconds["ast.parse"]
    together = peak["scan, cold"] * (options.jobs + 1 if options.jobs > 1 else 1)
    print("targets")
    verdict(f"cold {share:.2f} x ast.parse, at most {COLD_SHARE}", share <= COLD_SHARE)
    verdict(f"warm {seconds['scan, warm']:.2f} s, at most {WARM_SECONDS}", seconds["scan, warm"] <= WARM_SECONDS)
    verdict(f"memory at most {together:.0f} MB together, at most {MEMORY_MEGABYTES}", together <= MEMORY_MEGABYTES)


def verdict(text: str, reached: bool) -> None:
    print(f"  {'reached' if reached else 'MISSED '}  {text}")


if __name__ == "__main__":
    main()
