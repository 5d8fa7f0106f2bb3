"""`fusegen diff`: what changed between two transformers trees, or between two generated ones."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusegen import __version__
from fusegen.cli.options import cache_option, comma_separated, output_file_option, run_options
from fusegen.codegen.records import model_of
from fusegen.codegen.report.diff import FORMATS, Presentation, renderer
from fusegen.codegen.report.wording import plural

if TYPE_CHECKING:
    from fusegen.codegen.records import ScanReport

ANY = "any"


@click.command("diff")
@click.argument("old")
@click.argument("new")
@run_options
@cache_option
@click.option(
    "--format",
    "format_name",
    type=click.Choice(tuple(FORMATS)),
    default="text",
    show_default=True,
    help="What the result looks like. json is a promise, see docs/diff-schema.json; text is not.",
)
@output_file_option
@click.option(
    "--model", multiple=True, callback=comma_separated, metavar="NAMES", help="These model folders only (gemma*)."
)
@click.option(
    "--fail-on",
    multiple=True,
    callback=comma_separated,
    metavar="KINDS",
    help="Exit with 1 if there is a change of one of these kinds (lost-match, changed-chain, ..., any).",
)
@click.option("--generated", is_flag=True, help="OLD and NEW are folders that 'fusegen emit' wrote: diff the forwards.")
@click.pass_context
def command(
    context: click.Context,
    old: str,
    new: str,
    jobs: int | None,
    cache: bool,
    quiet: bool,
    verbose: int,
    format_name: str,
    output_file: Path | None,
    model: tuple[str, ...],
    fail_on: tuple[str, ...],
    generated: bool,
) -> None:
    """Show what changed between two transformers trees, for every head and loss.

    OLD and NEW are each a version (5.5.4), 'installed', a directory, a wheel, an sdist, a revision of a git
    checkout (path@v5.5.4), or a report that 'fusegen scan --format json' wrote. Nothing is installed, imported or
    checked out.
    """
    from fusegen.cli.terminal import note, start_logging, wants_color, write_diff, write_result

    verbosity = -1 if quiet else verbose
    start_logging(verbosity)
    if generated:
        result = _of_generated(Path(old), Path(new), model, fail_on, format_name)
    else:
        color = output_file is None and format_name == "text" and wants_color(sys.stdout)
        reading = HowToRead(model, jobs, cache, verbosity)
        result = _of_trees(old, new, reading, fail_on, format_name, color)
    (write_diff if generated else write_result)(result.text, output_file)
    if result.findings and not result.status:
        note(f"{plural(result.findings, 'change')} of a kind that --fail-on names.", verbosity)
    context.exit(result.status or int(result.findings > 0))


@dataclass(frozen=True)
class HowToRead:
    """How trees are read: the options that say so."""

    models: tuple[str, ...]
    jobs: int | None
    cache: bool
    verbosity: int


@dataclass(frozen=True)
class Result:
    """What is written, how many changes `--fail-on` names, and 2 if something could not be done at all, else 0."""

    text: str
    findings: int
    status: int = 0


def _of_trees(
    old: str, new: str, reading: HowToRead, fail_on: tuple[str, ...], format_name: str, color: bool
) -> Result:
    from fusegen.cli.reading import show_failures
    from fusegen.codegen.isolation import compared
    from fusegen.codegen.versions import KINDS, diff

    failing = _kinds(fail_on, tuple(KINDS))
    (before, _, status_before), (after, prefix, status_after) = _read(old, reading), _read(new, reading)
    if reading.models:
        before, after = _narrowed(reading.models, before, after)
    presentation = Presentation(__version__, color=color, verbosity=reading.verbosity, prefix=prefix)
    render = renderer(format_name)

    def made(old: ScanReport, new: ScanReport) -> tuple[str, int]:
        comparison = diff(old, new)
        return render(comparison, presentation), sum(change.kind in failing for change in comparison.changes)

    (text, findings), problems = compared(made, before, after)
    return Result(text, findings, 2 if show_failures(problems) else max(status_before, status_after))


def _read(spec: str, reading: HowToRead) -> tuple[ScanReport, str, int]:
    """The report on what `spec` names, the way to its package, and 2 if nothing of it could be read, else 0."""
    from fusegen.cli.reading import opened, report_failures, scanned
    from fusegen.cli.terminal import Refused, path_prefix
    from fusegen.codegen.report.saved import SavedReportError, load, looks_saved
    from fusegen.codegen.sources import user_path

    file = user_path(spec)
    if looks_saved(file):
        try:
            report = load(file)
        except SavedReportError as error:
            raise Refused(str(error)) from error
        return report, "", report_failures(report)
    tree = opened(spec)
    report = scanned(tree, models=(), jobs=reading.jobs, use_cache=reading.cache, verbosity=reading.verbosity)
    return report, path_prefix(tree.location), report_failures(report)


def _narrowed(patterns: tuple[str, ...], *reports: ScanReport) -> tuple[ScanReport, ...]:
    """The reports with the models that patterns name; a refusal for a pattern that names none in any of them."""
    from fusegen.cli.reading import matching_models

    known = frozenset[str]().union(*(report.models for report in reports))
    chosen = matching_models(sorted(known), patterns, "either tree")
    left_out = known - set(chosen)
    return tuple(
        replace(report, files=tuple(file for file in report.files if model_of(file.path) not in left_out))
        for report in reports
    )


def _of_generated(old: Path, new: Path, models: tuple[str, ...], fail_on: tuple[str, ...], format_name: str) -> Result:
    from fusegen.cli.terminal import Refused
    from fusegen.codegen.generated import CHANGE_KINDS, GeneratedError, diff_generated
    from fusegen.codegen.report.diff.generated import RENDERERS

    if format_name not in RENDERERS:
        raise click.BadParameter(f"with --generated it is one of {', '.join(RENDERERS)}.", param_hint="--format")
    failing = _kinds(fail_on, CHANGE_KINDS)
    try:
        found = diff_generated(old, new, models)
    except GeneratedError as error:
        raise Refused(str(error)) from error
    return Result(RENDERERS[format_name](found), sum(change.kind in failing for change in found.changes))


def _kinds(words: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        if word not in (*known, ANY):
            said = f"{word!r} is no kind of change. The kinds are {', '.join(known)} and {ANY}."
            raise click.BadParameter(said, param_hint="--fail-on")
    return known if ANY in words else words
