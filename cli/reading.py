"""How every command opens a source and scans it: errors for people, cache, progress, notes on stderr."""

from __future__ import annotations

from fnmatch import fnmatchcase

import click

from fusegen.cli.terminal import Refused, progress_bar
from fusegen.codegen.cache import Cache, cache_directory, code_fingerprint
from fusegen.codegen.records import Failure, ScanReport, model_of
from fusegen.codegen.sources import Source, SourceError, open_source


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
    cache = Cache.open(cache_directory(), f"{pipeline.RULES_VERSION}.{code_fingerprint()}") if use_cache else None
    try:
        with progress_bar("Reading models", verbosity) as progress:
            report = pipeline.scan(source, jobs=jobs, cache=cache, progress=progress, models=chosen)
    except SourceError as error:
        raise Refused(str(error)) from error
    if cache is not None:
        cache.save()
    return report


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
        click.echo(f"{failure.file}:{failure.line}: {kind}{failure.message}", err=True)
    return any(failure.internal for failure in failures)


def model_names(source: Source, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """The model folders that patterns name; a refusal with close matches for one that names none."""
    return matching_models(sorted({model_of(path) for path in source.paths()}), patterns, str(source.location))


def matching_models(known: list[str], patterns: tuple[str, ...], place: str) -> tuple[str, ...]:
    """The names in `known` that patterns match; a refusal with close matches for a pattern that matches none."""
    chosen: dict[str, None] = {}
    for pattern in patterns:
        names = [name for name in known if fnmatchcase(name, pattern)]
        if not names:
            from difflib import get_close_matches

            close = get_close_matches(pattern, known, n=3)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            raise Refused(f"{place} has no model {pattern!r}.{hint}")
        chosen.update(dict.fromkeys(names))
    return tuple(chosen)
