"""A comment for a pull request: the summary as a table, the rejections as another, the matches folded away."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from fusegen.codegen.records import DELEGATED, MATCH, REJECT, ScanReport, Site
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.wording import chain_shape, ordered_sites, place, plural, reason_text


def render(report: ScanReport, presentation: Presentation) -> str:
    sites = ordered_sites(report)
    lines = [
        f"### fusegen: {report.package} {report.version or '(unknown version)'}",
        "",
        f"{plural(len(sites), 'site')} in {plural(len(report.files), 'modeling file')}.",
        *_summary(sites),
        *_rejections([site for site in sites if site.verdict == REJECT]),
        *_chains([site for site in sites if site.verdict == MATCH]),
        *_failures(report),
        "",
        f"<sub>fusegen {presentation.tool_version}</sub>",
    ]
    return "\n".join(lines) + "\n"


def _summary(sites: list[Site]) -> Iterator[str]:
    if sites:
        yield from ("", "| verdict | sites |", "| --- | ---: |")
        for verdict in (MATCH, REJECT, DELEGATED):
            yield f"| {verdict} | {sum(site.verdict == verdict for site in sites)} |"


def _rejections(sites: list[Site]) -> Iterator[str]:
    if sites:
        yield from ("", "#### Rejected", "", "| code | site | place | reason |", "| --- | --- | --- | --- |")
        for site in sorted(sites, key=lambda site: site.code or ""):
            yield f"| {site.code or ''} | {_code(site.id)} | {_code(place(site))} | {_text(reason_text(site))} |"


def _chains(sites: list[Site]) -> Iterator[str]:
    if sites:
        yield from ("", "<details><summary>Chains of the matches</summary>", "", "| sites | chain |", "| ---: | --- |")
        counts = Counter(map(chain_shape, sites))
        for chain, number in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            yield f"| {number} | {_code(chain)} |"
        yield from ("", "</details>")


def not_emitted_section(entries: list[dict[str, Any]]) -> str:
    """Matches that were not emitted, as manifest.json spells them, for a report that lies beside generated files."""
    if not entries:
        return ""
    lines = ["", "#### Matched, not emitted", "", "| code | site | line | reason |", "| --- | --- | ---: | --- |"]
    for entry in sorted(entries, key=lambda entry: entry["code"]):
        lines.append(f"| {entry['code']} | {_code(entry['site'])} | {entry['line']} | {_text(entry['reason'])} |")
    return "\n".join(lines) + "\n"


def _failures(report: ScanReport) -> Iterator[str]:
    if report.failures:
        yield from ("", "#### Not read", "")
        for failure in report.failures:
            kind = "internal error: " if failure.internal else ""
            yield f"- {_code(f'{failure.file}:{failure.line}')} {kind}{_text(failure.message)}"


def _text(text: str) -> str:
    """Text in a table cell: nothing in it is read as markup but code between backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return _plain(text)
    return "".join(_code(part) if number % 2 else _plain(part) for number, part in enumerate(parts))


def _plain(text: str) -> str:
    for special in "\\`*_[]|":
        text = text.replace(special, "\\" + special)
    return re.sub(r"\s+", " ", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _code(text: str) -> str:
    """Code in a table cell. Pipes are escaped there too, and the fence is longer than any run of backticks inside."""
    text = " ".join(text.split()).replace("|", "\\|")
    if "`" not in text:
        return f"`{text}`"
    fence = "`" * (1 + max(map(len, "".join(c if c == "`" else " " for c in text).split())))
    return f"{fence} {text} {fence}"
