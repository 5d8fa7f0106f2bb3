"""The comparison as a comment on a pull request: what breaks in sight, the rest folded away, bounded in length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fusegen.codegen.records import MATCH, ScanReport
from fusegen.codegen.report.diff.wording import (
    before_and_after,
    edit_lines,
    grouped,
    names,
    outcome,
    summary,
    title,
)
from fusegen.codegen.report.markdown import code_cell, text_cell
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.wording import place, plural
from fusegen.codegen.versions import ADDED, KINDS, NOT_COMPARED, REGRESSIONS, REMOVED, Change, Comparison

# A comment on GitHub holds 65,536 characters.
MAX_CHARACTERS = 60_000

_NAMES_SHOWN = 8


def render(comparison: Comparison, presentation: Presentation) -> str:
    lines = _summary(comparison)
    for heading, section in _sections(comparison):
        fits = sum(len(line) + 1 for line in (*lines, *section)) < MAX_CHARACTERS
        lines += section if fits else ["", f"*{heading}: too long for a comment.*"]
    lines += ["", f"<sub>fusegen {presentation.tool_version}</sub>"]
    return "\n".join(lines) + "\n"


def _summary(comparison: Comparison) -> list[str]:
    old, new = comparison.old, comparison.new
    return [
        f"### fusegen: {title(comparison)}",
        "",
        f"{old.count(MATCH)} of {len(old.sites)} sites matched, now {new.count(MATCH)} of {len(new.sites)}.",
        "",
        "| change | sites | models |",
        "| --- | ---: | ---: |",
        *(f"| {kind} | {sites} | {models} |" for kind, sites, models in summary(comparison)),
    ]


def _sections(comparison: Comparison) -> Iterator[tuple[str, list[str]]]:
    """Heading and lines of each section that has something to say."""
    for kind, title_of_kind in KINDS.items():
        changes = comparison.of_kind(kind)
        heading = f"{title_of_kind} ({len(changes)})"
        if changes and kind in (*REGRESSIONS, NOT_COMPARED):
            yield heading, ["", f"#### {heading}", "", *_body(kind, changes)]
        elif changes:
            yield heading, _folded(heading, _body(kind, changes))
    for word, models in (("added", comparison.models_added), ("removed", comparison.models_removed)):
        if models:
            heading = f"Models {word} ({len(models)})"
            yield heading, _folded(heading, [", ".join(map(code_cell, models))])
    failures = [*_failures("old", comparison.old), *_failures("new", comparison.new)]
    if failures:
        yield "Not read", ["", "#### Not read", "", *failures]


def _folded(heading: str, body: Iterable[str]) -> list[str]:
    return ["", f"<details><summary>{heading}</summary>", "", *body, "", "</details>"]


def _failures(side: str, report: ScanReport) -> Iterator[str]:
    for failure in report.failures:
        yield f"- {code_cell(f'{failure.file}:{failure.line}')} in the {side} tree: {text_cell(failure.message)}"


def _body(kind: str, changes: tuple[Change, ...]) -> Iterator[str]:
    if kind in (ADDED, REMOVED):
        yield from ("| site | verdict |", "| --- | --- |")
        yield from (f"| {code_cell(change.id)} | {text_cell(outcome(change.site))} |" for change in changes)
        return
    for group in grouped(changes):
        first = group[0]
        if len(group) == 1:
            yield f"- {code_cell(first.id)} at {code_cell(place(first.site))}"
        else:
            shown = text_cell(names((change.id for change in group), _NAMES_SHOWN))
            yield f"- {plural(len(group), 'site')}: {shown}"
        yield from [f"  - {text_cell(first.why or '')}"] if kind == NOT_COMPARED else _fenced(first)


def _fenced(change: Change) -> Iterator[str]:
    """What was and what is, as a diff in a fence that belongs to the list item above."""
    yield "  ```diff"
    signs = {"was": "-", "now": "+"}
    yield from (f"  {signs[label]} {text}" for label, text in before_and_after(change))
    if change.new is not None and before_and_after(change):
        yield from (f"    {line}" for line in (change.new.excerpt or "").splitlines())
    yield from (f"  {sign} {part}: {text}" for part, sign, text in edit_lines(change.edits))
    yield "  ```"
