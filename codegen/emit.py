"""From a source tree to the files of a generated tree, as text: nothing is written here.

emit(open_source("installed")) -> Emission(files={"llama/modeling_llama.py": "...", ...}, ...)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fusegen.codegen.index import FileIndex, FunctionBlock
from fusegen.codegen.isolation import bug, spoilt_report, without_spoilers
from fusegen.codegen.layouts import CLASS, FULL, PATCH, generated_path
from fusegen.codegen.manifest import MANIFEST, class_entries, manifest_text
from fusegen.codegen.package import REPORT, package_files, page
from fusegen.codegen.paths import why_not_placed
from fusegen.codegen.patience import TookTooLong, limited
from fusegen.codegen.pipeline import read_all, read_path, report_on
from fusegen.codegen.plan import Plan, PlanRefusal, plan
from fusegen.codegen.records import Failure, FileReport, ScanReport, Site, file_report_from_json
from fusegen.codegen.selection import Selection
from fusegen.codegen.sources import Readable, Source

if TYPE_CHECKING:
    from fusegen.codegen.cache import Cache

EVERYTHING = Selection()

_Planned = list[tuple[Plan, FunctionBlock]]


@dataclass(frozen=True, slots=True)
class NotEmitted:
    """A match for which no forward is generated yet."""

    site: str
    code: str
    detail: str
    line: int


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What one modeling file yields: what was found in it, and what is generated for it.

    `text` (None: nothing is generated) holds the sites whose ids are `emitted`; `not_emitted` are the other matches;
    `sha256` is the hash of the file.
    """

    report: FileReport
    sha256: str = ""
    text: str | None = None
    emitted: tuple[str, ...] = ()
    not_emitted: tuple[NotEmitted, ...] = ()

    @property
    def path(self) -> str:
        return self.report.path

    @property
    def failures(self) -> tuple[Failure, ...]:
        return self.report.failures

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that `text` holds."""
        return tuple(site for site in self.report.sites if site.id in self.emitted)


def file_outcome_from_json(data: dict[str, Any]) -> FileOutcome:
    """The inverse of `to_json` for a `FileOutcome` (what the cache holds)."""
    return FileOutcome(
        file_report_from_json(data["report"]),
        data["sha256"],
        data["text"],
        tuple(data["emitted"]),
        tuple(NotEmitted(**each) for each in data["not_emitted"]),
    )


@dataclass(frozen=True, slots=True)
class Emission:
    """All generated files by path (the manifest included), and what was found, matched and not emitted.

    `report` is the scan behind it, with the selected sites only.
    """

    files: dict[str, str]
    report: ScanReport
    emitted: tuple[Site, ...]
    not_emitted: tuple[NotEmitted, ...]

    @property
    def failures(self) -> tuple[Failure, ...]:
        return self.report.failures


def emit(
    source: Source,
    version: str,
    *,
    jobs: int | None = None,
    models: tuple[str, ...] = (),
    progress: Callable[[int, int], None] | None = None,
    layout: str = CLASS,
    selection: Selection = EVERYTHING,
    cache: Cache[FileOutcome] | None = None,
    earlier: dict[str, Any] | None = None,
) -> Emission:
    """Generate a forward for every match of `source` that a plan can be made for.

    The result is the same from run to run, whatever the number of processes.

    Args:
        source: the tree to read.
        version: fusegen's own, which stands in what is generated.
        jobs, models, progress: as for `pipeline.scan`.
        layout: one of `LAYOUTS`.
        selection: the sites to emit and to report on.
        cache: what earlier runs of the same code generated with the same `version`, `layout` and `selection` from
            the same version of the package.
        earlier: the manifest that the folder has, whose `verified` fields hold on where nothing changed.

    Raises:
        UnknownTerm: `selection` names a class that has no site.
    """
    read = FileEmitter(version, layout, selection)
    outcomes = read_all(read, source, jobs=jobs, cache=cache, progress=progress, models=models)
    selection.check(_report(source, outcomes, whole=not models))
    outcomes = tuple(_narrowed(outcome, selection) for outcome in outcomes)

    def made(outcomes: tuple[FileOutcome, ...]) -> Emission:
        return _emission(source, version, outcomes, layout, selection, models, earlier)

    return without_spoilers(made, outcomes, _spoilt)[0]


def _emission(
    source: Source,
    version: str,
    outcomes: tuple[FileOutcome, ...],
    layout: str,
    selection: Selection,
    models: tuple[str, ...],
    earlier: dict[str, Any] | None,
) -> Emission:
    """All files of the tree that `outcomes` make."""
    report = _report(source, outcomes, whole=not models)
    report = replace(report, complete=report.complete and not selection)
    not_emitted = tuple(each for outcome in outcomes for each in outcome.not_emitted)
    files = {generated_path(layout, each.path): each.text for each in outcomes if each.text is not None}
    classes = class_entries(outcomes, layout, files, earlier)
    files |= package_files(report, version, layout, tuple(files), not_emitted)
    files[REPORT] = page(report, source.read, version, layout, outcomes, classes)
    asked = selection.to_json() | ({"model": list(models)} if models else {})
    files[MANIFEST] = manifest_text(report, version, layout, asked, classes, not_emitted, files)
    emitted = tuple(site for outcome in outcomes for site in outcome.sites)
    return Emission(dict(sorted(files.items())), report, emitted, not_emitted)


def _spoilt(outcome: FileOutcome, failure: Failure) -> FileOutcome:
    return FileOutcome(spoilt_report(outcome.report, failure), outcome.sha256)


def _report(source: Source, outcomes: tuple[FileOutcome, ...], *, whole: bool) -> ScanReport:
    return report_on(source, tuple(outcome.report for outcome in outcomes), whole=whole)


def _narrowed(outcome: FileOutcome, selection: Selection) -> FileOutcome:
    """The outcome without what it says of sites that are not selected (none of them is in its text)."""
    if not selection:
        return outcome
    report = selection.narrow_file(outcome.report, {each.site: each.code for each in outcome.not_emitted})
    chosen = {site.id for site in report.sites}
    not_emitted = tuple(each for each in outcome.not_emitted if each.site in chosen)
    return replace(outcome, report=report, not_emitted=not_emitted)


def _failed(site: Site, failure: Failure) -> NotEmitted:
    """A match whose edit came out wrong: a bug, which the failure of its file tells in full."""
    return NotEmitted(site.id, "FG608", failure.message.strip().split("\n")[-1], site.line)


def _with(report: FileReport, *failures: Failure) -> FileReport:
    return replace(report, failures=(*report.failures, *failures))


@dataclass(frozen=True, slots=True)
class FileEmitter:
    """What `emit` does with one modeling file, in whatever process: `FileEmitter("1.0")(source, path, mapping)`.

    `version` is fusegen's own; `mapping` is `names` of `loss_mapping`.
    """

    version: str
    layout: str = CLASS
    selection: Selection = EVERYTHING

    def __call__(self, source: Readable, path: str, mapping: dict[str, str]) -> FileOutcome:
        report, matches, index, content = read_path(source, path, mapping)
        misplaced = why_not_placed(self.layout, source.package, path)
        planned: _Planned = []
        refused: list[NotEmitted] = []
        for site, analysis in matches:
            if misplaced:
                refused.append(NotEmitted(site.id, "FG604", misplaced, site.line))
                continue
            try:
                with limited():
                    outcome = plan(site, analysis)
            except TookTooLong as error:
                report = _with(report, Failure(path, analysis.block.line, f"{site.id} is not emitted: {error}"))
                continue
            except Exception:
                failure = bug(path, analysis.block.line, site.id)
                report = _with(report, failure)
                refused.append(_failed(site, failure))
                continue
            if isinstance(outcome, PlanRefusal):
                refused.append(NotEmitted(site.id, outcome.code, outcome.detail, outcome.line))
            elif self.selection.holds(site):
                planned.append((outcome, analysis.block))
        digest = hashlib.sha256(content).hexdigest()
        text: str | Failure | None = None
        if planned and index is not None:
            text = self._text(source, index, planned, content, digest)
            if isinstance(text, Failure):
                planned, wrong = self._without_wrong(source, index, planned, content, digest)
                report = _with(report, *dict.fromkeys(wrong.values() or (text,)))
                refused += [_failed(site, failure) for site, failure in wrong.items()]
                text = self._text(source, index, planned, content, digest) if planned and wrong else None
        if not isinstance(text, str):
            return FileOutcome(report, digest, not_emitted=tuple(refused))
        return FileOutcome(report, digest, text, tuple(each.site.id for each, _ in planned), tuple(refused))

    def _without_wrong(
        self, source: Readable, index: FileIndex, planned: _Planned, content: bytes, digest: str
    ) -> tuple[_Planned, dict[Site, Failure]]:
        """The plans whose text is a module where they stand alone, and what is wrong with each of the others."""
        right: _Planned = []
        wrong: dict[Site, Failure] = {}
        for each in planned:
            text = self._text(source, index, [each], content, digest)
            if isinstance(text, Failure):
                wrong[each[0].site] = text
            else:
                right.append(each)
        return right, wrong

    def _text(
        self,
        source: Readable,
        index: FileIndex,
        planned: _Planned,
        content: bytes,
        digest: str,
    ) -> str | Failure:
        """The generated text, or what is wrong with it: a bug, and the one place where it is caught."""
        # Only here: a run that finds everything in the cache needs neither libcst nor jinja2, a quarter of a second.
        from fusegen.codegen.render import Original, module_text
        from fusegen.codegen.splice import SpliceError
        from fusegen.codegen.whole_file import Unchangeable, full_text, patch_text

        path = planned[0][0].site.file
        original = Original(source.package, source.version or "unknown", path, digest)
        try:
            if self.layout == PATCH:
                return patch_text(original, index, planned, self.version, content)
            text = (full_text if self.layout == FULL else module_text)(original, index, planned, self.version)
            compile(text, path, "exec")
            return text
        except Unchangeable as error:
            return Failure(path, 0, f"not written in the layout {self.layout}: {error}")
        except (SpliceError, SyntaxError) as error:
            return Failure(path, 0, f"the generated module is wrong: {error}", internal=True)
        except Exception:
            return bug(path, planned[0][1].line, planned[0][0].site.id)
