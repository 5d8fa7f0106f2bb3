"""Emits and verifies for several releases of transformers, each in an environment of its own; writes docs/verified.md.

    python benchmarks/verify_versions.py 4.57.6 5.5.4 [--checks all] [--out docs]

The installed release is verified as well, in the environment that is there. The others get one below build/verify,
once: older releases need older tokenizers and hubs. Exit status: 1 if `fusegen verify` fails for any release.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from matrix import cell
from packaging.version import Version

from fusegen.codegen.sources import PACKAGE
from fusegen.verify.records import FAILED, NOT_BUILT, NOT_EMITTED, STALE, VERIFIED, ClassResult, VerifyReport
from fusegen.verify.rendering import OUTCOMES
from fusegen.verify.targets import read_manifest

ROOT = Path(__file__).parents[1]
HOMES = ROOT / "build" / "verify"
# Each tree is emitted for the release that it is verified for, so that none is stale.
COLUMNS = tuple(outcome for outcome in OUTCOMES if outcome != STALE)


@dataclass(frozen=True)
class Release:
    """What was verified of one release, and how many classes had been emitted for it."""

    report: VerifyReport
    emitted: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("releases", nargs="*")
    parser.add_argument("--checks", choices=("core", "all"), default="core")
    parser.add_argument("--pip-args", type=shlex.split, default=[], help="for every pip install")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    options = parser.parse_args()

    found = []
    for release in sorted({*options.releases, version(PACKAGE)}, key=Version):
        found.append(verified(release, environment(release, options.pip_args), options.checks))
        print(row(found[-1]), flush=True)
    (options.out / "verified.md").write_text(document(found), encoding="utf-8")
    sys.exit(any(each.report.failed for each in found))


def environment(release: str, pip_args: list[str]) -> Path:
    """The folder of programs of an environment with this release and the torch that is installed here."""
    here = Path(sys.executable).parent
    if release == version(PACKAGE):
        return here
    home = HOMES / release
    if not (home / "bin" / "fusegen").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", home], check=True)
        pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "--disable-pip-version-check"]
        torch = f"torch=={Version(version('torch')).public}"
        wanted = [torch, f"{PACKAGE}=={release}", "--editable", f"{ROOT}[runtime]"]
        subprocess.run([*pip, "install", "--quiet", *pip_args, *wanted], check=True)
    return home / "bin"


def verified(release: str, programs: Path, checks: str) -> Release:
    """Emits for a release and verifies it, with the fusegen of its environment."""
    home, fusegen = HOMES / release, programs / "fusegen"
    tree, answer = home / "generated", home / "verified.json"
    subprocess.run([fusegen, "emit", "--quiet", "--force", "--out", tree], check=True, stdout=subprocess.DEVNULL)
    answer.unlink(missing_ok=True)
    options = ["--generated", tree, "--checks", checks, "--format", "json", "--output-file", answer]
    status = subprocess.run([fusegen, "verify", "--quiet", *options], check=False).returncode
    if status not in (0, 1):
        sys.exit(status)
    emitted = {(entry["model"], entry["class"]) for entry in read_manifest(tree)["classes"]}
    return Release(read_report(answer), len(emitted))


def read_report(path: Path) -> VerifyReport:
    """What `fusegen verify --format json` wrote, without its checks of each class."""
    data = json.loads(path.read_text(encoding="utf-8"))
    classes = (ClassResult(each["id"], each["outcome"], reason=each["reason"]) for each in data["classes"])
    return VerifyReport(data["transformers"], tuple(data["checks"]), tuple(classes))


def document(releases: list[Release]) -> str:
    """docs/verified.md."""
    checks = sorted({len(each.report.checks) for each in releases})
    lines = [
        f"# Verified releases of {PACKAGE}",
        "",
        f"Written by `make verify-versions`: {' or '.join(map(str, checks))} checks of every emitted class against its",
        "original, on a tiny model, in an environment with that release. *Trained*: the share of the matched classes",
        "whose original could be built and trained as a tiny model.",
        "",
        f"| release | matched | emitted | {' | '.join(COLUMNS)} | trained |",
        f"| --- |{' ---: |' * (len(COLUMNS) + 3)}",
        *map(row, releases),
        "",
        "## Not verified, and why",
        "",
        "| class | releases | reason |",
        "| --- | --- | --- |",
        *(f"| `{name}` | {', '.join(where)} | {cell(why)} |" for (name, why), where in not_verified(releases).items()),
    ]
    return "\n".join(lines) + "\n"


def row(release: Release) -> str:
    report = release.report
    trained = len(report.classes) - report.count(NOT_BUILT) - report.count(FAILED)
    share = f"{100 * trained / len(report.classes):.1f} %"
    counts = [report.count(outcome) for outcome in COLUMNS]
    return f"| {' | '.join(map(str, (report.version, len(report.classes), release.emitted, *counts, share)))} |"


def not_verified(releases: list[Release]) -> dict[tuple[str, str], tuple[str, ...]]:
    """The classes without a verdict and the reason, or what came of them if there is none: in which releases."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for release in releases:
        for each in release.report.classes:
            if each.outcome not in (VERIFIED, NOT_EMITTED):
                key = each.id, brief(each.reason) or each.outcome
                found[key] = (*found.get(key, ()), release.report.version)
    return dict(sorted(found.items()))


def brief(reason: str) -> str:
    """The first sentence of a reason, without the place in the source, which moves from release to release."""
    return re.sub(r" \(\S+:\d+\)$", "", re.split(r"(?<=\.) (?=[A-Z])", reason, maxsplit=1)[0])


if __name__ == "__main__":
    main()
