"""What two scans of a tree differ in: a pure function of two `ScanReport`s.

    diff(scan of 5.5.4, scan of 5.23.0)  ->  Comparison(changes: Change(lost-match, "x.XForCausalLM.forward") ...)

A site is the same on both sides if its id is. What a site computes is compared, not how it is spelled: lines,
annotations, the name of the hidden states and that of the `**` parameter do not count. A site that may stand in
what could not be read of the other side is not compared, since nothing is known of it there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import SequenceMatcher
from functools import cached_property
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import Any

from fusegen.codegen.records import MATCH, Head, ScanReport, Site, VocabularyLoss, model_of
from fusegen.codegen.report.wording import loss_call_text, operation_text

LOST_MATCH = "lost-match"
CHANGED_CHAIN = "changed-chain"
NOT_COMPARED = "not-compared"
CHANGED_REASON = "changed-reason"
NEWLY_MATCHED = "newly-matched"
CHANGED_SIGNATURE = "changed-signature"
ADDED = "added"
REMOVED = "removed"

# In the order in which a report lists them: what breaks first, what is merely new last.
KINDS = {
    LOST_MATCH: "No longer matched",
    CHANGED_CHAIN: "Changed chain of operations",
    NOT_COMPARED: "Not compared, since a side could not be read",
    CHANGED_REASON: "Still not matched, for another reason",
    NEWLY_MATCHED: "Newly matched",
    CHANGED_SIGNATURE: "Changed signature",
    ADDED: "Added",
    REMOVED: "Removed",
}

REGRESSIONS = (LOST_MATCH, CHANGED_CHAIN)

_AT_LINE = re.compile(r" \(line \d+\)")


@dataclass(frozen=True, slots=True)
class Edit:
    """One part that the two sides spell differently; `old` is None where it is new, `new` where it is gone.

    `part` is `head`, `before head`, `head rows`, `head bias`, `operation`, `labels`, `loss`, `guard`, `parameter` or
    `parameter order`; `line` is that of the new side, of the old one if the part is gone, and 0 for guards and
    parameters.
    """

    part: str
    old: str | None
    new: str | None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One site that differs, in one of the ways of `KINDS`; `why` explains where the site itself does not."""

    kind: str
    id: str
    old: Site | None
    new: Site | None
    edits: tuple[Edit, ...] = ()
    why: str | None = None

    @property
    def site(self) -> Site:
        """The site on the new side, on the old one if it is gone."""
        site = self.new or self.old
        assert site is not None
        return site


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two scans side by side: models that came and went, changes by kind and place, and the rest as a number."""

    old: ScanReport
    new: ScanReport
    models_added: tuple[str, ...]
    models_removed: tuple[str, ...]
    changes: tuple[Change, ...]
    unchanged: int

    def of_kind(self, kind: str) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.kind == kind)


def diff(old: ScanReport, new: ScanReport) -> Comparison:
    """What changed from `old` to `new`, by kind and then by place."""
    before, after = _Side("old", old), _Side("new", new)
    changes: list[Change] = []
    unchanged = 0
    for id in sorted(before.sites.keys() | after.sites.keys()):
        found = list(_changes(id, before, after))
        changes += found
        unchanged += not found
    order = list(KINDS)
    changes.sort(key=lambda change: (order.index(change.kind), change.site.file, change.site.line, change.id))
    return Comparison(
        old,
        new,
        models_added=tuple(sorted(after.models_beyond(before))),
        models_removed=tuple(sorted(before.models_beyond(after))),
        changes=tuple(changes),
        unchanged=unchanged,
    )


class _Side:
    """One scan, looked up by names; `name` is `old` or `new`."""

    def __init__(self, name: str, report: ScanReport) -> None:
        self._name = name
        self._report = report
        self.sites = {site.id: site for site in report.sites}
        self._paths = {file.path for file in report.files}
        self._unread = {failure.file for failure in report.failures}

    @cached_property
    def _classes(self) -> dict[str, set[str]]:
        """The classes of each model."""
        found: dict[str, set[str]] = {}
        for file in self._report.files:
            found.setdefault(model_of(file.path), set()).update(file.classes)
        return found

    @cached_property
    def _asides(self) -> dict[tuple[str, str], str]:
        """Why a function is no site, by model and function."""
        files = self._report.files
        return {(model_of(file.path), aside.function): aside.why for file in files for aside in file.asides}

    def why_unread(self, path: str) -> str | None:
        """What could not be read here and is, or may hold, the file at `path`; None if nothing may."""
        if path in self._unread:
            return f"{path} could not be read in the {self._name} tree"
        above = () if path in self._paths else map(str, PurePosixPath(path).parents)
        folder = next((folder for folder in above if folder in self._unread), None)
        return f"not all of {folder}/ could be read in the {self._name} tree" if folder else None

    def models_beyond(self, other: _Side) -> frozenset[str]:
        """The models that the other side has not, as far as it could be read."""
        known = self._report.models - other._report.models
        return known - {model_of(path) for path in self._paths if other.why_unread(path)}

    def has_class_of(self, site: Site) -> bool:
        return site.class_name in self._classes.get(site.model, ())

    def why_no_site(self, site: Site) -> str:
        """Why the function of `site`, whose class is here, is no site here."""
        function = f"{site.class_name}.{site.method}"
        return self._asides.get((site.model, function), f"no loss over a vocabulary was found in {function}")


def _changes(id: str, before: _Side, after: _Side) -> Iterator[Change]:
    was, now = before.sites.get(id), after.sites.get(id)
    if was is None:
        assert now is not None
        if why := before.why_unread(now.file):
            yield Change(NOT_COMPARED, id, None, now, why=why)
        elif not before.has_class_of(now):
            yield Change(ADDED, id, None, now)
        else:
            kind = NEWLY_MATCHED if now.verdict == MATCH else CHANGED_REASON
            yield Change(kind, id, None, now, why=before.why_no_site(now))
    elif now is None:
        if why := after.why_unread(was.file):
            yield Change(NOT_COMPARED, id, was, None, why=why)
        elif not after.has_class_of(was):
            yield Change(REMOVED, id, was, None)
        else:
            kind = LOST_MATCH if was.verdict == MATCH else CHANGED_REASON
            yield Change(kind, id, was, None, why=f"the class is still there: {after.why_no_site(was)}")
    else:
        yield from _between(id, was, now)


def _between(id: str, was: Site, now: Site) -> Iterator[Change]:
    """The changes of a site that both sides have."""
    before, after = _alike(was), _alike(now)
    if was.verdict == MATCH == now.verdict:
        edits = tuple(_chain_edits(before, after))
        if edits:
            yield Change(CHANGED_CHAIN, id, was, now, edits)
    elif now.verdict == MATCH:
        yield Change(NEWLY_MATCHED, id, was, now)
    elif was.verdict == MATCH:
        yield Change(LOST_MATCH, id, was, now)
    elif (was.verdict, was.code, was.delegated_to) != (now.verdict, now.code, now.delegated_to):
        yield Change(CHANGED_REASON, id, was, now)
    if was.parameters and now.parameters:
        edits = tuple(_parameter_edits(before.parameters, after.parameters))
        if edits:
            yield Change(CHANGED_SIGNATURE, id, was, now, edits)


def _alike(site: Site) -> Site:
    """The site with its `**` parameter under the name that nearly all have: no caller sees which it is."""
    name = next((each[2:] for each in site.parameters if each.startswith("**")), "kwargs")
    return site if name == "kwargs" else _respelled(site, re.compile(rf"(?<![\w.]){name}\b"), "kwargs")


def _respelled(part: Any, name: re.Pattern[str], other: str) -> Any:
    """A record, or a part of one, in whose texts `other` stands for `name`."""
    if isinstance(part, str):
        return name.sub(other, part)
    if isinstance(part, tuple):
        return tuple(_respelled(each, name, other) for each in part)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{each.name: _respelled(getattr(part, each.name), name, other) for each in fields(part)})
    return part


def _chain_edits(was: Site, now: Site) -> Iterator[Edit]:
    for old, new in zip_longest(was.losses, now.losses):
        if new is None:
            yield Edit("loss", loss_call_text(old), None, old.line)
        elif old is None:
            yield Edit("loss", None, loss_call_text(new), new.line)
        else:
            yield from _loss_edits(old, new)
    before, after = ({_AT_LINE.sub("", guard): guard for guard in site.guards} for site in (was, now))
    yield from (Edit("guard", guard, None) for text, guard in before.items() if text not in after)
    yield from (Edit("guard", None, guard) for text, guard in after.items() if text not in before)


def _loss_edits(old: VocabularyLoss, new: VocabularyLoss) -> Iterator[Edit]:
    yield from _head_edits(old.head, new.head)
    before, after = (tuple(map(operation_text, loss.chain)) for loss in (old, new))
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            yield from (Edit("operation", before[i], None, old.chain[i].line) for i in range(i1, i2))
            yield from (Edit("operation", None, after[j], new.chain[j].line) for j in range(j1, j2))
    # A report that an older fusegen saved does not have their value.
    valued = old.label_value and new.label_value
    was, now = (loss.label_value if valued else loss.label_source for loss in (old, new))
    if was != now:
        yield Edit("labels", was, now, new.line)
    if loss_call_text(replace(old, label_source=new.label_source)) != loss_call_text(new):
        yield Edit("loss", loss_call_text(old), loss_call_text(new), new.line)


def _head_edits(old: Head | None, new: Head | None) -> Iterator[Edit]:
    """What differs in the head itself; what goes into it does not count."""
    before, after = _head_parts(old), _head_parts(new)
    for part in before | after:
        if before.get(part) != after.get(part):
            yield Edit(part, before.get(part), after.get(part), new.line if new else 0)


def _head_parts(head: Head | None) -> dict[str, str]:
    if head is None:
        return {}
    inner = "" if head.linear == head.expression else f" ending in {head.linear}"
    return {
        "head": head.expression + inner,
        "before head": ", ".join(head.before) or "nothing",
        "head rows": head.rows or "unknown",
        "head bias": head.bias,
    }


def _parameter_edits(old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Edit]:
    """Parameters that came, went or have another default; their order, if those of both sides changed places."""
    before, after = ({spelled.split("=")[0]: spelled for spelled in side} for side in (old, new))
    yield from (Edit("parameter", spelled, None) for name, spelled in before.items() if name not in after)
    yield from (
        Edit("parameter", before.get(name), spelled) for name, spelled in after.items() if before.get(name) != spelled
    )
    order = [name for name in before if name in after], [name for name in after if name in before]
    if order[0] != order[1]:
        yield Edit("parameter order", ", ".join(order[0]), ", ".join(order[1]))
