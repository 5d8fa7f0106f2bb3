"""Every .py file of the standard library and of installed packages as a modeling file: nothing may crash.

    python benchmarks/corpus.py [--packages stdlib,transformers,torch,...] [--files N] [--seconds 900]

Each package becomes a tree `models/<n>/modeling_<n>.py`, which is scanned once and reported in every format, emitted
in every layout and compared with its own report. A file that is no Python may be refused; an internal error, a
traceback, a wrong exit status or a command that does not end in time makes this one end with 1. `--files` takes that
many of each package, spread over it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from fusegen.codegen.layouts import LAYOUTS
from fusegen.codegen.report import FORMATS
from fusegen.codegen.report.diff import FORMATS as DIFF_FORMATS

STDLIB = "stdlib"
PACKAGES = (STDLIB, "transformers", "torch", "sympy", "jinja2", "hypothesis", "rich", "libcst")
CLEAN = 0
FUSEGEN = [sys.executable, "-c", "from fusegen.cli import main; main()"]


@dataclass
class Counts:
    """What became of the files of one package; `wrong` are the commands that did not end as they must."""

    files: int
    sites: int = 0
    matched: int = 0
    emitted: int = 0
    not_read: int = 0
    internal: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def python_files(package: str) -> list[Path]:
    """The .py files of a package that is installed, which is not imported; none if it is not there."""
    if package == STDLIB:
        roots = [sysconfig.get_paths()["stdlib"]]
    else:
        found = find_spec(package)
        roots = list(found.submodule_search_locations or ()) if found else []
    files = (file for root in roots for file in Path(root).rglob("*.py") if file.is_file())
    return sorted(file for file in files if package != STDLIB or "site-packages" not in file.parts)


def stage(files: list[Path], root: Path) -> Path:
    """A tree of `files` as modeling files, by links."""
    tree = root / "transformers"
    (tree / "models").mkdir(parents=True)
    (tree / "__init__.py").write_text('__version__ = "0"\n')
    for number, file in enumerate(files):
        folder = tree / "models" / f"m{number}"
        folder.mkdir()
        (folder / f"modeling_m{number}.py").symlink_to(file.resolve())
    return tree


def commands(tree: Path, root: Path) -> Iterator[list[str]]:
    """Everything that reads a tree, each with a file or folder of its own; the first is the scan as JSON."""
    formats = ["json", *(name for name in FORMATS if name != "json")]
    yield from (
        ["scan", "--source", str(tree), "--format", name, "-v", "-o", str(root / f"scan.{name}")] for name in formats
    )
    yield from (
        ["emit", "--source", str(tree), "--layout", layout, "--out", str(root / f"emit-{layout}")] for layout in LAYOUTS
    )
    saved = str(root / "scan.json")
    yield from (["diff", saved, str(tree), "--format", name, "-o", str(root / f"diff.{name}")] for name in DIFF_FORMATS)


def run(package: str, files: list[Path], deadline: float) -> Counts:
    """All commands over the files of one package."""
    counts = Counts(len(files))
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tree = stage(files, root)
        environment = os.environ | {"FUSEGEN_CACHE_DIR": str(root / "cache")}
        for command in commands(tree, root):
            said = complaint(command, files, environment, deadline)
            if said:
                counts.wrong.append(f"{package}: fusegen {' '.join(command[:1] + command[3:5])}: {said}")
        if (root / "scan.json").exists():
            count(counts, json.loads((root / "scan.json").read_text()), root / "emit-class/manifest.json")
    counts.seconds = time.monotonic() - start
    return counts


def complaint(command: list[str], files: list[Path], environment: dict[str, str], deadline: float) -> str:
    """What is wrong with how a command ended; nothing if all is well."""
    try:
        done = subprocess.run(
            [*FUSEGEN, *command],
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=max(1.0, deadline - time.monotonic()),
        )
    except subprocess.TimeoutExpired:
        return "did not end in time"
    lines = done.stderr.splitlines()
    bugs = [named(line, files) for line in lines if "internal error" in line]
    if "Traceback" in done.stderr:
        return "; ".join([lines[-1], *bugs])
    if done.returncode != CLEAN or bugs:
        return "; ".join([f"exit status {done.returncode}", *bugs[:20]])
    return ""


def named(line: str, files: list[Path]) -> str:
    """A line of a failure with the file that it is really about."""
    number = line.partition("/m")[2].partition("/")[0]
    return f"{files[int(number)]}: {line}" if number.isdigit() else line


def count(counts: Counts, report: dict[str, object], manifest: Path) -> None:
    """Take the figures of a scan's report and of what was emitted."""
    summary, failures = report["summary"], report["failures"]
    assert isinstance(summary, dict)
    assert isinstance(failures, list)
    counts.sites, counts.matched = summary["sites"], summary["matched"]
    counts.internal = sum(failure["internal"] for failure in failures)
    counts.not_read = len(failures) - counts.internal
    if manifest.exists():
        counts.emitted = len(json.loads(manifest.read_text())["classes"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", default=",".join(PACKAGES))
    parser.add_argument("--files", type=int, default=0, help="of each package; 0 is all")
    parser.add_argument("--seconds", type=float, default=900.0, help="for everything together")
    options = parser.parse_args()

    deadline = time.monotonic() + options.seconds
    wrong: list[str] = []
    print(f"{'package':14}{'files':>7}{'sites':>7}{'match':>7}{'emitted':>9}{'not read':>10}{'internal':>10}{'s':>7}")
    for package in options.packages.split(","):
        files = python_files(package)
        if options.files and len(files) > options.files:
            files = files[:: len(files) // options.files][: options.files]
        if not files:
            wrong.append(f"{package}: is not installed")
            continue
        found = run(package, files, deadline)
        wrong += found.wrong
        print(
            f"{package:14}{found.files:>7}{found.sites:>7}{found.matched:>7}{found.emitted:>9}{found.not_read:>10}"
            f"{found.internal:>10}{found.seconds:>7.0f}",
            flush=True,
        )
    print("\n".join(wrong) if wrong else "nothing crashed")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
