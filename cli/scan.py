"""`fusegen scan`: every language-model head and loss of a transformers tree, with a verdict."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from fusegen import __version__
from fusegen.cli.options import comma_separated, reading_options, selecting_options
from fusegen.codegen.report import FORMATS


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
@click.option(
    "--output-file",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the result there instead of to stdout.",
)
@selecting_options
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
    from fusegen.cli.reading import checked, opened, parsed_terms, report_failures, scanned
    from fusegen.cli.terminal import note, start_logging, wants_color, write_result
    from fusegen.codegen.report import Presentation, renderer
    from fusegen.codegen.selection import Selection

    verbosity = -1 if quiet else verbose
    start_logging(verbosity)
    tree = opened(source)
    shown = Selection(parsed_terms("select", select, tree), parsed_terms("ignore", ignore, tree))
    failing = parsed_terms("fail-on", fail_on, tree)
    whole = scanned(tree, models=model, jobs=jobs, use_cache=cache, verbosity=verbosity)
    report = checked(shown, whole).narrow(whole)
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


def _prefix(location: Path) -> str:
    """The way from the working directory to a package folder below it, with a slash at the end; else nothing."""
    here = Path.cwd()
    if not location.is_dir() or not location.is_relative_to(here):
        return ""
    inside = os.path.relpath(location, here).replace(os.sep, "/")
    return "" if inside == "." else f"{inside}/"
