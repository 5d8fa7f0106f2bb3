"""The report as one page for a browser: no network, no framework, and still a table where scripts are off.

The rows stand in the page as HTML; what opens below a row is made by templates/report.js from the JSON of `details`.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fusegen.codegen.reasons import REASONS
from fusegen.codegen.records import DELEGATED, MATCH, REJECT, ScanReport
from fusegen.codegen.report.details import details
from fusegen.codegen.report.page import SitePage
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.verified import section
from fusegen.codegen.report.wording import (
    loss_text,
    operation_name,
    ordered_sites,
    plural,
    position,
    reason_text,
    silent_files,
    spans,
)
from fusegen.codegen.templating import asset, template
from fusegen.codegen.visible import visible

EMITTED = "emitted"
NOT_EMITTED = "not-emitted"

# From the best to the worst that can become of a site: the order of the bar.
_STATES = {
    EMITTED: "emitted",
    MATCH: "match",
    NOT_EMITTED: "matched, not emitted",
    DELEGATED: "delegated",
    REJECT: "rejected",
}


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table."""

    id: str
    model: str
    name: str
    place: str
    verdict: str
    state: str
    chain: tuple[str, ...]
    loss: str
    more: int
    operations: tuple[str, ...]
    code: str
    note: list[tuple[str, bool]]
    excerpt: str


@dataclass(frozen=True, slots=True)
class _Segment:
    """A part of the bar: `start` and `length` in thousandths."""

    state: str
    label: str
    count: int
    share: str
    start: float
    length: float


@dataclass(frozen=True, slots=True)
class _Facet:
    """A value that the table can be narrowed to, and how many rows have it; `length` in thousandths of the longest."""

    value: str
    label: list[tuple[str, bool]]
    count: int
    length: float


def render(report: ScanReport, presentation: Presentation) -> str:
    """The whole page, with what `presentation.pages` has of the functions behind the sites."""
    known = {(visible(page.site.file), visible(page.site.id)): page for page in presentation.pages}
    pages = [
        replace(known.get((site.file, site.id), SitePage(site, None)), site=site) for site in ordered_sites(report)
    ]
    rows = [_row(page) for page in pages]
    script = asset("report.js")
    page = template("report.html.j2").render(
        title=f"{report.package} {report.version or '(unknown version)'}",
        tool_version=presentation.tool_version,
        matched=report.count(MATCH),
        emitted=sum(row.state == EMITTED for row in rows),
        generated=any(row.state in (EMITTED, NOT_EMITTED) for row in rows),
        rejected=report.count(REJECT),
        delegated=report.count(DELEGATED),
        files=plural(len(report.files), "modeling file"),
        segments=_segments(rows),
        verdicts=_verdicts(rows),
        models=sorted({row.model for row in rows}),
        operations=_facets(operation for row in rows for operation in dict.fromkeys(row.operations)),
        reasons=_facets((row.code for row in rows if row.code), {code: each.summary for code, each in REASONS.items()}),
        rows=rows,
        verified=section(presentation.verified),
        failures=report.failures,
        silent=_silent(report),
        style=asset("report.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=details(pages),
    )
    return page.rstrip("\n") + "\n"


def _row(page: SitePage) -> _Row:
    site = page.site
    loss = site.primary
    code = page.refusal.code if page.refusal else site.code or ""
    return _Row(
        id=site.id,
        model=site.model,
        name=site.id.removeprefix(f"{site.model}.").removesuffix(".forward"),
        place=f"{site.file}:{position(site)[0]}",
        verdict=site.verdict,
        state=EMITTED if page.patched else NOT_EMITTED if page.refusal else site.verdict,
        chain=tuple(map(operation_name, loss.chain)) if loss else (),
        loss=loss_text(loss) if loss else "",
        more=max(0, len(site.losses) - 1),
        operations=tuple(step.op for each in site.losses for step in each.chain),
        code=code,
        note=spans(_note(page)),
        excerpt=site.excerpt or "" if site.verdict == REJECT else "",
    )


def _note(page: SitePage) -> str:
    site = page.site
    if page.refusal:
        return visible(page.refusal.detail)
    if site.verdict == DELEGATED:
        return f"to `{site.delegated_to}`" if site.delegated_to else "to an inner module"
    return reason_text(site) if site.verdict == REJECT else ""


def _segments(rows: Sequence[_Row]) -> list[_Segment]:
    counts = Counter(row.state for row in rows)
    segments: list[_Segment] = []
    start = 0.0
    for state, label in _STATES.items():
        if count := counts[state]:
            length = 1000 * count / len(rows)
            segments.append(_Segment(state, label, count, f"{length / 10:.1f} %", round(start, 2), round(length, 2)))
            start += length
    return segments


def _verdicts(rows: Sequence[_Row]) -> list[_Facet]:
    """What the table can be narrowed to by verdict; a match is also what became of it."""
    counts = Counter(name for row in rows for name in {row.verdict, row.state})
    return [
        _Facet(name, spans(name.replace("-", " ")), counts[name], 0)
        for name in dict.fromkeys((MATCH, *_STATES))
        if counts[name]
    ]


def _facets(values: Iterable[str], labels: dict[str, str] | None = None) -> list[_Facet]:
    """Each value with its count, the most frequent first."""
    counts = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    return [
        _Facet(value, spans((labels or {}).get(value, "")), count, round(1000 * count / counts[0][1]))
        for value, count in counts
    ]


def _silent(report: ScanReport) -> list[tuple[str, list[str]]]:
    """The places that mention labels or a loss and are no site, by the reason why not."""
    groups: dict[str, list[str]] = {}
    for file, whys in silent_files(report):
        for aside in file.asides:
            groups.setdefault(aside.why, []).append(f"{file.path}:{aside.line} {aside.function}")
        if not file.asides:
            groups.setdefault(whys[0], []).append(file.path)
    return sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
