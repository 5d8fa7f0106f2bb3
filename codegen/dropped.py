"""What a generated tree would lose by a new emission, and whether that may happen without being asked for.

A forward whose source was read and that does not match any more goes. One whose source was not read, is not there or
was not asked for does not go in silence, nor does a tree of another source or layout: it may be all that there is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusegen.codegen.layouts import CLASS
from fusegen.codegen.manifest import MANIFEST

if TYPE_CHECKING:
    from fusegen.codegen.emit import Emission

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a tree has and would not have any more: ids of forwards, and of those with a recorded verdict.

    `held` counts the forwards that the tree has; `why` says what speaks against it, and is empty if nothing does;
    `unread` are those of `forwards` whose source could not be read.
    """

    held: int = 0
    forwards: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    why: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.forwards or self.verdicts)

    def __str__(self) -> str:
        parts = [
            f"{len(ids)} {noun}{'' if len(ids) == 1 else 's'} ({_named(ids)})"
            for ids, noun in ((self.forwards, "forward"), (self.verdicts, "recorded verdict"))
            if ids
        ]
        return " and ".join(parts) or "nothing"


def dropped(earlier: Mapping[str, Any] | None, emission: Emission) -> Dropped:
    """What of the tree with the manifest `earlier` the emission does not hold."""
    if not earlier or not earlier["classes"]:
        return Dropped()
    new = json.loads(emission.files[MANIFEST])
    stays = {_identity(entry): entry for entry in new["classes"]}
    lost = [entry for entry in earlier["classes"] if _identity(entry) not in stays]
    unread = tuple(_id(entry) for entry in lost if _is_unread(str(entry.get("file")), emission))
    verdicts = (
        entry
        for entry in earlier["classes"]
        if "verified" in entry and "verified" not in stays.get(_identity(entry), {})
    )
    return Dropped(
        len(earlier["classes"]),
        tuple(map(_id, lost)),
        tuple(map(_id, verdicts)),
        unread,
        tuple(_objections(earlier, new, lost, unread, emission)),
    )


def _objections(
    earlier: Mapping[str, Any],
    new: Mapping[str, Any],
    lost: list[dict[str, Any]],
    unread: tuple[str, ...],
    emission: Emission,
) -> list[str]:
    why: list[str] = []
    if earlier.get("source") != new["source"]:
        why.append(f"it is of {_spelled(earlier.get('source'))}, and the source is {_spelled(new['source'])}")
    if (layout := earlier.get("layout", CLASS)) != new["layout"]:
        why.append(f"its layout is {layout}")
    if unread:
        why.append(f"the source of {len(unread)} could not be read")
    paths = {file.path for file in emission.report.files}
    rest = [entry for entry in lost if _id(entry) not in unread]
    if rest and not emission.report.complete and earlier.get("selection") != new["selection"]:
        why.append(f"{len(rest)} were not asked for (--model, --select, --ignore)")
    elif gone := [entry for entry in rest if entry.get("file") not in paths]:
        why.append(f"the source has no file for {len(gone)}")
    return why


def _is_unread(file: str, emission: Emission) -> bool:
    """Whether a file could not be read, or a folder that it is in."""
    return any(file == each.file or file.startswith(f"{each.file}/") for each in emission.failures)


def _identity(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return entry.get("file"), entry.get("class"), entry.get("method")


def _id(entry: Mapping[str, Any]) -> str:
    return ".".join(str(entry.get(key)) for key in ("model", "class", "method")).removesuffix(".forward")


def _spelled(source: Any) -> str:
    found = source if isinstance(source, Mapping) else {}
    return f"{found.get('package', 'an unknown package')} {found.get('version') or '(unknown version)'}"


def _named(ids: tuple[str, ...]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return ", ".join(ids[:_NAMED]) + more
