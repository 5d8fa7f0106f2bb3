"""How every command opens a source and scans it: errors for people, cache, progress, notes on stderr."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fusegen.cli.terminal import Refused, note, progress_bar
from fusegen.codegen.cache import Cache, cache_directory, code_fingerprint
from fusegen.codegen.records import Failure, ScanReport, file_report_from_json, model_of
from fusegen.codegen.report.wording import plural
from fusegen.codegen.sources import Source, SourceError, open_source
from fusegen.codegen.visible import visible

if TYPE_CHECKING:
    from fusegen.codegen.selection import Selection, Terms

Record = TypeVar("Record")


def opened(spec: str) -> Source:
    """The source that `spec` names; a refusal if there is none or if it holds no modeling file."""
    try:
        source = open_source(spec)
        if not source.paths():
            found = "".join(f" {problem.file}: {problem.message}." for problem in source.problems())
            raise SourceError(f"{source.location} holds no modeling file below models/. Is it a whole tree?{found}")
    except SourceError as error:
        raise Refused(str(error)) from error
    return source


def scanned(
    source: Source, *, models: tuple[str, ...], jobs: int | None, use_cache: bool, verbosity: int
) -> ScanReport:
    """The report on `source`, or on the models that the patterns in `models` name."""
    from fusegen.codegen import pipeline

    chosen = model_names(source, models)
    cache = opened_cache("scan", file_report_from_json) if use_cache else None
    try:
        with progress_bar("Reading models", verbosity) as progress:
            report = pipeline.scan(source, jobs=jobs, cache=cache, progress=progress, models=chosen)
    except SourceError as error:
        raise Refused(str(error)) from error
    return report


def note_left_out(source: Source, models: tuple[str, ...], verbosity: int) -> None:
    """Says how many files were not looked at, unless the user has named some models."""
    left_out = source.left_out()
    if left_out and not models:
        note(f"Left out: {plural(len(left_out), 'file')} of deprecated models.", verbosity)


def opened_cache(kind: str, decode: Callable[[dict[str, Any]], Record], *salts: object) -> Cache[Record]:
    """The user's cache for this code; `salts` are what else its records depend on, besides a file's content."""
    from fusegen.codegen.pipeline import RULES_VERSION

    rules = ".".join([RULES_VERSION, code_fingerprint(), *map(repr, salts)])
    return Cache.open(cache_directory(), kind, rules, decode)


def parsed_terms(option: str, words: tuple[str, ...], source: Source) -> Terms:
    """The terms that an option was given; wrong usage for one that names nothing in `source`."""
    from fusegen.codegen.reasons import REASONS
    from fusegen.codegen.selection import Terms, UnknownTerm, known_operations

    try:
        return Terms.parse(words, REASONS, known_operations(), _models(source))
    except UnknownTerm as error:
        raise click.BadParameter(str(error), param_hint=f"--{option}") from error


def checked(selection: Selection, report: ScanReport) -> Selection:
    """`selection` itself; wrong usage if it names a class that has no site in `report`."""
    from fusegen.codegen.selection import UnknownTerm

    try:
        selection.check(report)
    except UnknownTerm as error:
        raise click.BadParameter(str(error), param_hint="--select or --ignore") from error
    return selection


def report_failures(report: ScanReport) -> int:
    """Prints each failure on stderr. Gives 2 if one is a bug of fusegen or if no file could be read, else 0."""
    if show_failures(report.failures):
        return 2
    if all(file.failures for file in report.files):
        click.echo("Error: no file could be read.", err=True)
        return 2
    return 0


def show_failures(failures: tuple[Failure, ...]) -> bool:
    """Prints each failure on stderr; whether one of them is a bug of fusegen."""
    for failure in failures:
        kind = "internal error, please report it: " if failure.internal else ""
        click.echo(visible(f"{failure.file}:{failure.line}: {kind}{failure.message}"), err=True)
    return any(failure.internal for failure in failures)


def model_names(source: Source, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The model folders that patterns name; a refusal with close matches for one that names none."""
    return matching_models(_models(source), patterns, str(source.location))


def matching_models(known: list[str], patterns: tuple[str, ...], place: str) -> tuple[str, ...]:
    """The names in `known` that patterns match; a refusal with close matches for a pattern that matches none."""
    chosen: dict[str, None] = {}
    for pattern in patterns:
        names = [name for name in known if name == pattern or fnmatchcase(name, pattern)]
        if not names:
            from fusegen.codegen.selection import close_names

            raise Refused(f"there is no model {pattern!r} in {place}.{close_names(pattern, known)}")
        chosen.update(dict.fromkeys(names))
    return tuple(chosen)


def _models(source: Source) -> list[str]:
    return sorted({model_of(path) for path in source.paths()})
