"""`fusegen scan`: every language-model head and loss of a transformers tree, with a verdict."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusegen import __version__
from fusegen.cli.options import comma_separated, output_file_option, reading_options
from fusegen.codegen.report import FORMATS

if TYPE_CHECKING:
    from fusegen.codegen.selection import Terms


@click.command("scan")
@reading_options
@click.option(
    "--format",
    "format_name",
    type=click.Choice(tuple(FORMATS)),
    default="full",
    show_default=True,
    envvar="FUSEGEN_OUTPUT_FORMAT",
    show_envvar=True,
    help="What the result looks like. json is a promise, see docs/json-schema.json; full is not.",
)
@output_file_option
@click.option(
    "--select",
    multiple=True,
    callback=comma_separated,
    metavar="TERMS",
    help="Show these only: codes or their beginnings (FG203, FG2), operations (soft_cap), verdicts (reject).",
)
@click.option("--ignore", multiple=True, callback=comma_separated, metavar="TERMS", help="Do not show these.")
@click.option(
    "--model", multiple=True, callback=comma_separated, metavar="NAMES", help="These model folders only (gemma*)."
)
@click.option(
    "--fail-on",
    multiple=True,
    callback=comma_separated,
    metavar="TERMS",
    help="Exit with 1 if a shown site is one of these; 'unmatched' is reject or delegated.",
)
@click.pass_context
def command(
    context: click.Context,
    source: str,
    jobs: int | None,
    cache: bool,
    quiet: bool,
    verbose: int,
    format_name: str,
    output_file: Path | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    model: tuple[str, ...],
    fail_on: tuple[str, ...],
) -> None:
    """Find every language-model head and loss and say whether it can be fused.

    Reads the text of a transformers tree; nothing of it is imported or run.
    """
    from fusegen.cli.reading import opened, report_failures, scanned
    from fusegen.cli.terminal import note, start_logging, wants_color, write_result
    from fusegen.codegen.report import Presentation, renderer
    from fusegen.codegen.selection import narrow

    verbosity = -1 if quiet else verbose
    start_logging(verbosity)
    shown, hidden, failing = _terms("select", select), _terms("ignore", ignore), _terms("fail-on", fail_on)
    tree = opened(source)
    whole = scanned(tree, models=model, jobs=jobs, use_cache=cache, verbosity=verbosity)
    report = narrow(whole, shown, hidden)
    if len(report.sites) < len(whole.sites):
        note(f"Shown: {len(report.sites)} of {len(whole.sites)} sites (--select, --ignore).", verbosity)
    presentation = Presentation(
        __version__,
        color=output_file is None and format_name == "full" and wants_color(sys.stdout),
        verbosity=verbosity,
        prefix=_prefix(tree.location),
    )
    write_result(renderer(format_name)(report, presentation), output_file)
    status = report_failures(whole)
    findings = sum(map(failing.match, report.sites)) if failing else 0
    if findings and not status:
        note(f"{findings} of the shown sites {'is' if findings == 1 else 'are'} named by --fail-on.", verbosity)
        status = 1
    context.exit(status)


def _terms(option: str, words: tuple[str, ...]) -> Terms:
    from fusegen.codegen.reasons import REASONS
    from fusegen.codegen.selection import Terms, UnknownTerm, known_operations

    try:
        return Terms.parse(words, REASONS, known_operations())
    except UnknownTerm as error:
        raise click.BadParameter(str(error), param_hint=f"--{option}") from error


def _prefix(location: Path) -> str:
    """The way from the working directory to a package folder below it, with a slash at the end; else nothing."""
    here = Path.cwd()
    if not location.is_dir() or not location.is_relative_to(here):
        return ""
    inside = os.path.relpath(location, here).replace(os.sep, "/")
    return "" if inside == "." else f"{inside}/"
