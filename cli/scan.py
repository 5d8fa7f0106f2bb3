"""`fusegen scan`: every language-model head and loss of a transformers tree, with a verdict."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusegen import __version__
from fusegen.cli.options import comma_separated, output_file_option, reading_options, selecting_options
from fusegen.codegen.report import FORMATS

if TYPE_CHECKING:
    from fusegen.codegen.records import ScanReport


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
@selecting_options
@click.option(
    "--fail-on",
    multiple=True,
    callback=comma_separated,
    metavar="TERMS",
    help="Exit with 1 if a shown site is one of these ('unmatched' is reject or delegated), for 'not-read' if a file "
    "could not be read.",
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
    from fusegen.cli.reading import checked, note_left_out, opened, parsed_terms, report_failures, scanned
    from fusegen.cli.terminal import note, path_prefix, start_logging, wants_color, write_result
    from fusegen.codegen.isolation import shown, with_failures
    from fusegen.codegen.pages import site_pages
    from fusegen.codegen.report import WITH_PAGES, Presentation, renderer
    from fusegen.codegen.report.wording import plural
    from fusegen.codegen.selection import NOT_READ, Selection

    verbosity = -1 if quiet else verbose
    start_logging(verbosity)
    tree = opened(source)
    chosen = Selection(parsed_terms("select", select, tree), parsed_terms("ignore", ignore, tree))
    failing = parsed_terms("fail-on", tuple(word for word in fail_on if word != NOT_READ), tree)
    whole = scanned(tree, models=model, jobs=jobs, use_cache=cache, verbosity=verbosity)
    note_left_out(tree, model, verbosity)
    report = checked(chosen, whole).narrow(whole)
    if len(report.sites) < len(whole.sites):
        note(f"Shown: {len(report.sites)} of {len(whole.sites)} sites (--select, --ignore).", verbosity)
    render = renderer(format_name)
    presentation = Presentation(
        __version__,
        color=output_file is None and format_name == "full" and wants_color(sys.stdout),
        verbosity=verbosity,
        prefix=path_prefix(tree.location),
    )

    def made(report: ScanReport) -> str:
        pages = site_pages(report, tree.read) if format_name in WITH_PAGES else ()
        return render(report, replace(presentation, pages=pages))

    text, report = shown(made, report)
    write_result(text, output_file)
    whole = with_failures(whole, report)
    status = report_failures(whole)
    findings = sum(map(failing.match, report.sites)) if failing else 0
    if findings and not status:
        note(f"{findings} of the shown sites {'is' if findings == 1 else 'are'} named by --fail-on.", verbosity)
        status = 1
    if NOT_READ in fail_on and whole.failures and not status:
        note(f"{plural(len(whole.failures), 'failure')} to read, which --fail-on names.", verbosity)
        status = 1
    context.exit(status)
