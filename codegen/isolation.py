"""One bad file spoils no run: what is made of all files is made without those for which it fails.

without_spoilers(render, files, spoilt)   ->   the text, and the files with a failure in place of a bad one
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Protocol, TypeVar

from fusegen.codegen.records import Failure, FileReport, ScanReport

_FRAMES = 3


class Part(Protocol):
    """Something that belongs to one file."""

    @property
    def path(self) -> str: ...


Each = TypeVar("Each", bound=Part)
Made = TypeVar("Made")


def without_spoilers(
    make: Callable[[tuple[Each, ...]], Made], parts: tuple[Each, ...], spoilt: Callable[[Each, Failure], Each]
) -> tuple[Made, tuple[Each, ...]]:
    """`make(parts)`, and the parts that it was made of: `spoilt(part, failure)` stands for one on which it fails.

    Raises what `make` raises where no single part is the cause.
    """
    try:
        return make(parts), parts
    except Exception:
        kept = tuple(_tried(make, part, spoilt) for part in parts)
        if all(one is other for one, other in zip(kept, parts, strict=True)):
            raise
    return make(kept), kept


def _tried(make: Callable[[tuple[Each, ...]], Made], part: Each, spoilt: Callable[[Each, Failure], Each]) -> Each:
    try:
        make((part,))
    except Exception:
        return spoilt(part, bug(part.path, 0, "it cannot be reported on"))
    return part


def spoilt_report(report: FileReport, failure: Failure) -> FileReport:
    """What is left of the report on a file: why nothing of it is shown."""
    return FileReport(
        report.path,
        failures=(*report.failures, failure),
        mentions_labels=report.mentions_labels,
        classes=report.classes,
    )


def shown(make: Callable[[ScanReport], str], report: ScanReport) -> tuple[str, ScanReport]:
    """`make(report)` and the report that it shows, without the sites of files on which it fails."""

    def of_files(files: tuple[FileReport, ...]) -> str:
        return make(replace(report, files=files))

    text, files = without_spoilers(of_files, report.files, spoilt_report)
    return text, replace(report, files=files)


@dataclass(frozen=True, slots=True)
class _Pair:
    """The reports on one file of two trees; none where a tree lacks it."""

    path: str
    old: tuple[FileReport, ...]
    new: tuple[FileReport, ...]


def compared(
    make: Callable[[ScanReport, ScanReport], Made], old: ScanReport, new: ScanReport
) -> tuple[Made, tuple[Failure, ...]]:
    """`make(old, new)` without the files on which it fails, and those failures."""
    paths = dict.fromkeys(file.path for report in (old, new) for file in report.files)
    pairs = tuple(_Pair(path, _of(old, path), _of(new, path)) for path in paths)
    failures: list[Failure] = []

    def of_pairs(pairs: tuple[_Pair, ...]) -> Made:
        before, after = (file for pair in pairs for file in pair.old), (file for pair in pairs for file in pair.new)
        return make(replace(old, files=tuple(before)), replace(new, files=tuple(after)))

    def spoilt(pair: _Pair, failure: Failure) -> _Pair:
        failures.append(failure)
        left = (tuple(spoilt_report(report, failure) for report in side) for side in (pair.old, pair.new))
        return _Pair(pair.path, *left)

    try:
        return make(old, new), ()
    except Exception:
        return without_spoilers(of_pairs, pairs, spoilt)[0], tuple(failures)


def _of(report: ScanReport, path: str) -> tuple[FileReport, ...]:
    return tuple(file for file in report.files if file.path == path)


def with_failures(report: ScanReport, shown: ScanReport) -> ScanReport:
    """`report` with the failures that came up when a part of it was shown."""
    known = set(report.failures)
    new = tuple(failure for failure in shown.failures if failure not in known)
    return replace(report, files=(*report.files, *(FileReport(each.file, failures=(each,)) for each in new)))


def bug(path: str, line: int, what: str) -> Failure:
    """The exception that is being handled, in one line, as the failure of one file."""
    error = sys.exception()
    assert error is not None
    said = " ".join(str(error).split())[:200]
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = " > ".join(f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in frames)
    return Failure(path, line, f"{what}: {type(error).__name__}: {said} ({places})", internal=True)
