"""The comparison for people, to be read over coffee: what breaks first, the same change of many sites once.

Changed chain of operations (33)
  11 sites  glm46v.Glm46VForConditionalGeneration, … and 8 more
    loss        - causal(shifted) by self.loss_function(labels, vocab_size=self.vocab_size)
                + causal(shifted) by self.loss_function(labels, vocab_size=self.vocab_size, **kwargs)
"""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from fusegen.codegen.records import MATCH
from fusegen.codegen.report.diff.wording import (
    NAMES_SHOWN,
    before_and_after,
    edit_lines,
    grouped,
    names,
    outcome,
    summary,
    title,
)
from fusegen.codegen.report.pen import Pen
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.wording import chain_shape, place, plural
from fusegen.codegen.versions import (
    ADDED,
    CHANGED_SIGNATURE,
    KINDS,
    LOST_MATCH,
    NOT_COMPARED,
    REMOVED,
    Change,
    Comparison,
)

_COLORS = {"-": "red", "+": "green"}
_WIDTH = 110


def render(comparison: Comparison, presentation: Presentation) -> str:
    """Sections that have nothing to say are left out; `-v` names every site."""
    pen = Pen(presentation.color)
    limit = None if presentation.verbosity > 0 else NAMES_SHOWN
    sections = [_summary(comparison, pen)]
    for kind, heading in KINDS.items():
        changes = comparison.of_kind(kind)
        if changes:
            lines = {ADDED: _added, REMOVED: _removed}.get(kind, _changed)
            sections.append(_section(pen("bold", f"{heading} ({len(changes)})"), lines(changes, pen, limit)))
    sections.append(_not_read(comparison, pen))
    return "\n".join("\n".join(lines) + "\n" for lines in map(list, sections) if lines)


def _summary(comparison: Comparison, pen: Pen) -> Iterator[str]:
    old, new = comparison.old, comparison.new
    matched = f"{old.count(MATCH)} of {len(old.sites)} sites matched, now {new.count(MATCH)} of {len(new.sites)}"
    yield pen("bold", f"{title(comparison)}: {matched}")
    yield ""
    for kind, sites, models in summary(comparison):
        yield f"  {kind:<18} {sites:>4}  in {plural(models, 'model')}"
    for word, gone in (("added", comparison.models_added), ("removed", comparison.models_removed)):
        if gone:
            yield ""
            yield from wrap(f"{plural(len(gone), 'model')} {word}: {', '.join(gone)}", _WIDTH, subsequent_indent="  ")


def _section(heading: str, lines: Iterator[str]) -> Iterator[str]:
    yield heading
    yield from lines


def _changed(changes: tuple[Change, ...], pen: Pen, limit: int | None) -> Iterator[str]:
    groups = grouped(changes)
    alone = [group[0].id for group in groups if len(group) == 1 and group[0].kind == CHANGED_SIGNATURE]
    if limit is not None and len(alone) > limit:
        groups = [group for group in groups if len(group) > 1]
    else:
        alone = []
    for group in groups:
        first = group[0]
        if len(group) == 1:
            yield f"  {pen('cyan', place(first.site))}  {first.id}"
        else:
            yield f"  {len(group)} sites  {names((change.id for change in group), limit)}"
        if first.kind == NOT_COMPARED:
            yield f"    {first.why}"
        for label, text in before_and_after(first):
            yield f"    {label}  {text}"
        if first.kind == LOST_MATCH and first.new is not None:
            yield from (f"    {pen('dim', '|')} {line}" for line in (first.new.excerpt or "").splitlines())
        previous = ""
        for part, sign, text in edit_lines(first.edits):
            yield f"    {'' if part == previous else part:<15} {pen(_COLORS[sign], f'{sign} {text}')}"
            previous = part
    if alone:
        yield f"  {len(alone)} more, each in its own way (-v shows them): {names(alone, limit)}"


def _added(changes: tuple[Change, ...], pen: Pen, limit: int | None) -> Iterator[str]:
    sites = [change.site for change in changes]
    for site in sites:
        if site.verdict != MATCH:
            yield f"  {pen('cyan', place(site))}  {site.id}"
            yield f"    {outcome(site)}"
    shapes: dict[str, list[str]] = {}
    for site in sites:
        if site.verdict == MATCH:
            shapes.setdefault(chain_shape(site), []).append(site.id)
    for shape, ids in sorted(shapes.items(), key=lambda item: (-len(item[1]), item[0])):
        yield f"  {len(ids):>3} match  {shape}"
        yield f"             {names(ids, limit)}"


def _removed(changes: tuple[Change, ...], pen: Pen, limit: int | None) -> Iterator[str]:
    yield from (f"  {change.id}  was {outcome(change.site)}" for change in changes)


def _not_read(comparison: Comparison, pen: Pen) -> Iterator[str]:
    if comparison.old.failures or comparison.new.failures:
        yield pen("bold", "Not read")
    for side, report in (("old", comparison.old), ("new", comparison.new)):
        for failure in report.failures:
            yield f"  {pen('red', f'{failure.file}:{failure.line}')}  (in the {side} tree) {failure.message}"
