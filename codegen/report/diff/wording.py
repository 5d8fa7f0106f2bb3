"""How a comparison reads in every format for people: groups of the same change, what was, what is now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fusegen.codegen.records import ScanReport, Site
from fusegen.codegen.report.wording import verdict_text
from fusegen.codegen.versions import (
    CHANGED_CHAIN,
    CHANGED_REASON,
    KINDS,
    LOST_MATCH,
    NEWLY_MATCHED,
    NOT_COMPARED,
    Change,
    Comparison,
    Edit,
)

NAMES_SHOWN = 3


def origin(report: ScanReport) -> str:
    return report.version or "(unknown version)"


def title(comparison: Comparison) -> str:
    """`transformers 5.5.4 -> 5.23.0`."""
    return f"{comparison.new.package} {origin(comparison.old)} -> {origin(comparison.new)}"


def summary(comparison: Comparison) -> Iterator[tuple[str, int, int]]:
    """Kind, sites and models of every kind of change that occurs, then the unchanged sites."""
    for kind in KINDS:
        changes = comparison.of_kind(kind)
        if changes:
            yield kind, len(changes), len({change.site.model for change in changes})
    touched = {change.site.model for change in comparison.changes}
    sites = {site.model for site in comparison.new.sites}
    yield "unchanged", comparison.unchanged, len(sites - touched)


def grouped(changes: Iterable[Change]) -> list[tuple[Change, ...]]:
    """Changes whose edits read the same, or which the same failure hides, in one group, larger groups first."""
    groups: dict[object, list[Change]] = {}
    for change in changes:
        hidden_by = change.why if change.kind == NOT_COMPARED else None
        key = tuple((edit.part, edit.old, edit.new) for edit in change.edits) or hidden_by or change.id
        groups.setdefault(key, []).append(change)
    return sorted(map(tuple, groups.values()), key=lambda group: (-len(group), group[0].site.file, group[0].id))


def short(id: str) -> str:
    """An id without `.forward`, which nearly all have."""
    return id.removesuffix(".forward")


def names(ids: Iterable[str], limit: int | None = NAMES_SHOWN) -> str:
    """`a.A, b.B, c.C and 28 more`."""
    spelled = [short(id) for id in ids]
    if limit is None or len(spelled) <= limit + 1:
        return ", ".join(spelled)
    return f"{', '.join(spelled[:limit])} and {len(spelled) - limit} more"


def outcome(site: Site) -> str:
    """`match self.lm_head > causal(shifted)`, `FG203 entries of …`, `delegated to self.decoder`."""
    return f"{site.code or site.verdict} {verdict_text(site)}"


def edit_lines(edits: Iterable[Edit]) -> list[tuple[str, str, str]]:
    """Part, sign and text of each side of each edit; parameters that come or go are put in one line each."""
    lines: list[tuple[str, str, str]] = []
    parameters: dict[str, list[str]] = {"-": [], "+": []}
    for edit in edits:
        for sign, text in (("-", edit.old), ("+", edit.new)):
            if text is not None and edit.part == "parameter":
                parameters[sign].append(text)
            elif text is not None:
                lines.append((edit.part, sign, text))
    return lines + [("parameters", sign, ", ".join(texts)) for sign, texts in parameters.items() if texts]


def before_and_after(change: Change) -> list[tuple[str, str]]:
    """What a site was and what it is now, where its verdict changed; its edits say the rest."""
    if change.kind not in (LOST_MATCH, NEWLY_MATCHED, CHANGED_REASON):
        return []
    was = outcome(change.old) if change.old else change.why or ""
    now = outcome(change.new) if change.new else change.why or ""
    return [("was", was), ("now", now)]


def change_text(change: Change) -> str:
    """One change as one sentence, for annotations."""
    if change.kind == CHANGED_CHAIN:
        said = "; ".join(f"{part} {sign} {text}" for part, sign, text in edit_lines(change.edits))
    else:
        said = "; ".join(f"{label}: {text}" for label, text in before_and_after(change))
    return f"{change.id}: {said}"
