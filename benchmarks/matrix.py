"""Scans the newest release of every minor version of transformers from 4.56 on; writes docs/coverage.md and .svg.

    python benchmarks/matrix.py [--versions 4.57.6,5.5.4] [--out docs]

`pip index versions` says which releases there are; each wheel is downloaded once into fusegen's cache directory.
What matches in the newest release and not in an older one is listed with the reason: it is either a real
difference of the source, or a spelling that the reader should learn.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from packaging.version import Version

from fusegen.cli.reading import scanned as read
from fusegen.codegen.reasons import REASONS
from fusegen.codegen.records import DELEGATED, MATCH, REJECT, ScanReport, Site
from fusegen.codegen.report.diff.wording import short
from fusegen.codegen.report.wording import plural, reason_text
from fusegen.codegen.sources import PACKAGE, open_source
from fusegen.codegen.versions import diff

OLDEST = Version("4.56")

_COLORS = ("#2a9d58", "#e0b400", "#c0392b", "#e67e22", "#8e44ad", "#2980b9", "#16a085", "#7f8c8d", "#d35495", "#34495e")


@dataclass(frozen=True)
class Gap:
    """A site that matches in the newest release and not in some older ones, for one reason."""

    id: str
    reason: str
    versions: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", help="instead of the newest of every minor version")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs")
    options = parser.parse_args()

    versions = options.versions.split(",") if options.versions else newest_of_each_minor(released())
    reports = [scanned(version) for version in versions]
    (options.out / "coverage.md").write_text(table(reports), encoding="utf-8")
    (options.out / "coverage.svg").write_text(plot(reports), encoding="utf-8")


def released() -> list[Version]:
    """Every release on the index that is no pre-release."""
    command = [sys.executable, "-m", "pip", "index", "versions", PACKAGE]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (line,) = re.findall(r"^Available versions: (.*)$", said, re.MULTILINE)
    return [Version(each) for each in line.split(", ")]


def newest_of_each_minor(releases: list[Version]) -> list[str]:
    """`["4.56.2", "4.57.6", "5.0.0", ...]`"""
    newest: dict[tuple[int, int], Version] = {}
    for version in sorted(releases):
        if version >= OLDEST and not version.is_prerelease:
            newest[version.major, version.minor] = version
    return list(map(str, newest.values()))


def scanned(version: str) -> ScanReport:
    report = read(open_source(version), models=(), jobs=None, use_cache=True, verbosity=-1)
    print(f"{report.version}: {report.count(MATCH)} of {plural(len(report.sites), 'site')} matched", flush=True)
    return report


def rejected(report: ScanReport) -> Counter[str]:
    return Counter(site.code or REJECT for site in report.sites if site.verdict == REJECT)


def gaps(reports: list[ScanReport]) -> list[Gap]:
    """What matches in the last report and has another verdict in an earlier one, by site."""
    found: dict[tuple[str, str], list[str]] = {}
    for report in reports[:-1]:
        for change in diff(report, reports[-1]).of_kind("newly-matched"):
            found.setdefault((change.id, why(change.old)), []).append(str(report.version))
    return [Gap(id, reason, tuple(versions)) for (id, reason), versions in sorted(found.items())]


def why(site: Site | None) -> str:
    if site is None:
        return "no loss over a vocabulary is computed there"
    if site.verdict == DELEGATED:
        return f"the labels go to `{site.delegated_to}`"
    return f"{site.code} {reason_text(site)}"


def table(reports: list[ScanReport]) -> str:
    """docs/coverage.md."""
    last = reports[-1]
    codes = sorted({code for report in reports for code in rejected(report)})
    lines = [
        f"# Coverage of {PACKAGE} {reports[0].version} to {last.version}",
        "",
        "Written by `make matrix`: the newest release of every minor version, scanned from its wheel. A *site* is a",
        "function that computes a cross-entropy over a vocabulary; models that transformers deprecated are left out.",
        "",
        "![Sites by verdict and release](coverage.svg)",
        "",
        f"*Like the newest*: of the sites that match in {last.version} and are in this release, how many match here.",
        "",
        "| release | sites | match | | reject | delegated | like the newest |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(row(report, last) for report in reports),
        "",
        "## Rejected, by reason",
        "",
        f"| release | {' | '.join(codes)} |",
        f"| --- |{' ---: |' * len(codes)}",
        *(reasons_row(report, codes) for report in reports),
        "",
        *(f"- {code}: {REASONS[code].summary}" for code in codes),
        "",
        f"## Matched in {last.version}, and not in an older release",
        "",
        "What the reader says of the older source: it computes something else there, or spells it in a way that the",
        "reader does not know.",
        "",
        "| site | releases | what the older source does |",
        "| --- | --- | --- |",
        *(f"| `{short(gap.id)}` | {span(gap.versions)} | {cell(gap.reason)} |" for gap in gaps(reports)),
    ]
    return "\n".join(lines) + "\n"


def row(report: ScanReport, last: ScanReport) -> str:
    matched_last = {site.id for site in last.sites if site.verdict == MATCH}
    shared = [site for site in report.sites if site.id in matched_last]
    alike = sum(site.verdict == MATCH for site in shared)
    counts = [report.count(verdict) for verdict in (MATCH, REJECT, DELEGATED)]
    share = f"{100 * counts[0] / len(report.sites):.1f} %"
    cells = (report.version, len(report.sites), counts[0], share, *counts[1:], f"{alike} of {len(shared)}")
    return f"| {' | '.join(map(str, cells))} |"


def reasons_row(report: ScanReport, codes: list[str]) -> str:
    counts = rejected(report)
    return f"| {report.version} | {' | '.join(str(counts[code] or '') for code in codes)} |"


def span(versions: tuple[str, ...]) -> str:
    return versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def plot(reports: list[ScanReport]) -> str:
    """docs/coverage.svg: a bar for each release, matches below, then delegated sites, then rejections by reason."""
    codes = sorted({code for report in reports for code in rejected(report)})
    names = [MATCH, DELEGATED, *codes]
    width, height, left, top, bottom = 60 + 30 * len(reports), 420, 44, 70, 360
    highest = max(len(report.sites) for report in reports)

    def y(number: int) -> float:
        return round(bottom - (bottom - top) * number / highest, 1)

    bars: list[dict[str, Any]] = []
    for place, report in enumerate(reports):
        counts = [report.count(MATCH), report.count(DELEGATED), *(rejected(report)[code] for code in codes)]
        below, pieces = 0, []
        for part, count in enumerate(counts, start=1):
            if count:
                pieces.append({"part": part, "y": y(below + count), "height": round(y(below) - y(below + count), 1)})
            below += count
        said = ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True) if count)
        label = str(report.version)
        bars.append(
            {"x": left + 6 + 30 * place, "width": 22, "label": label, "title": f"{label}: {said}", "pieces": pieces}
        )
    columns = max(1, (width - left) // 90)
    parts = [
        {"name": name, "color": color, "x": left + 90 * (number % columns), "y": 28 + 18 * (number // columns)}
        for number, (name, color) in enumerate(zip(names, cycle(_COLORS), strict=False))
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, autoescape=True, trim_blocks=True
    )
    return environment.get_template("coverage.svg.j2").render(
        title=f"Sites in {PACKAGE} {reports[0].version} to {reports[-1].version}, by verdict",
        width=width,
        height=height,
        left=left,
        bottom=bottom,
        marks=[{"number": number, "y": y(number)} for number in range(0, highest + 1, 100)],
        parts=parts,
        bars=bars,
    )


if __name__ == "__main__":
    main()
