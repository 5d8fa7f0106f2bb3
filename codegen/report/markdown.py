"""A comment for a pull request: the summary as a table, the rejections as another, the matches folded away."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from fusegen.codegen.records import DELEGATED, MATCH, REJECT, ScanReport, Site
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.wording import chain_shape, ordered_sites, place, reason_text, site_count, spans
from fusegen.codegen.visible import visible


def render(report: ScanReport, presentation: Presentation) -> str:
    sites = ordered_sites(report)
    lines = [
        f"### fusegen: {report.package} {report.version or '(unknown version)'}",
        "",
        f"{site_count(report)}.",
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
            cells = (site.code or "", code_cell(site.id), code_cell(place(site)), text_cell(reason_text(site)))
            yield f"| {' | '.join(cells)} |"


def _chains(sites: list[Site]) -> Iterator[str]:
    if sites:
        yield from ("", "<details><summary>Chains of the matches</summary>", "", "| sites | chain |", "| ---: | --- |")
        counts = Counter(map(chain_shape, sites))
        for chain, number in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            yield f"| {number} | {code_cell(chain)} |"
        yield from ("", "</details>")


def not_emitted_section(entries: list[dict[str, Any]]) -> str:
    """Matches that were not emitted, as manifest.json spells them, for a report that lies beside generated files."""
    if not entries:
        return ""
    lines = ["", "#### Matched, not emitted", "", "| code | site | line | reason |", "| --- | --- | ---: | --- |"]
    for entry in sorted(entries, key=lambda entry: entry["code"]):
        lines.append(
            f"| {entry['code']} | {code_cell(visible(entry['site']))} | {entry['line']} | "
            f"{text_cell(visible(entry['reason']))} |"
        )
    return "\n".join(lines) + "\n"


def _failures(report: ScanReport) -> Iterator[str]:
    if report.failures:
        yield from ("", "#### Not read", "")
        for failure in report.failures:
            kind = "internal error: " if failure.internal else ""
            yield f"- {code_cell(f'{failure.file}:{failure.line}')} {kind}{text_cell(failure.message)}"


def text_cell(text: str) -> str:
    """Text in a table cell: nothing in it is read as markup but code between backticks."""
    return "".join(code_cell(part) if is_code else _plain(part) for part, is_code in spans(text))


def _plain(text: str) -> str:
    for special in "\\`*_[]|":
        text = text.replace(special, "\\" + special)
    return re.sub(r"\s+", " ", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def code_cell(text: str) -> str:
    """Code in a table cell. Pipes are escaped there too, and the fence is longer than any run of backticks inside."""
    text = " ".join(text.split()).replace("|", "\\|")
    if "`" not in text:
        return f"`{text}`"
    fence = "`" * (1 + max(map(len, "".join(c if c == "`" else " " for c in text).split())))
    return f"{fence} {text} {fence}"
