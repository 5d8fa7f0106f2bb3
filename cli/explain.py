"""`fusegen explain`: one site in full, the chain beside the source lines that it comes from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from fusegen import __version__
from fusegen.cli.options import reading_options

if TYPE_CHECKING:
    from fusegen.codegen.lookup import Definition
    from fusegen.codegen.records import ScanReport
    from fusegen.codegen.sources import Source


@click.command("explain")
@click.argument("name", metavar="CLASS")
@reading_options
@click.option(
    "--format",
    "format_name",
    type=click.Choice(("full", "json")),
    default="full",
    show_default=True,
    help="json is that of 'fusegen scan', with the sites of this class only.",
)
@click.pass_context
def command(
    context: click.Context,
    name: str,
    source: str,
    jobs: int | None,
    cache: bool,
    quiet: bool,
    verbose: int,
    format_name: str,
) -> None:
    """Show what was found in a class, beside its source.

    CLASS is LlamaForCausalLM, llama.LlamaForCausalLM or a whole id such as llama.LlamaForCausalLM.forward.
    """
    from fusegen.cli.reading import opened, report_failures, scanned
    from fusegen.cli.terminal import Refused, start_logging, wants_color, write_result
    from fusegen.codegen.lookup import UnknownName, definitions, narrow_to
    from fusegen.codegen.report.json_report import render
    from fusegen.codegen.report.presentation import Presentation

    verbosity = -1 if quiet else verbose
    start_logging(verbosity)
    tree = opened(source)
    try:
        meant = definitions(tree, name)
    except UnknownName as error:
        raise Refused(str(error)) from error
    models = tuple(dict.fromkeys(each.model for each in meant))
    whole = scanned(tree, models=models, jobs=jobs, use_cache=cache, verbosity=verbosity)
    report = narrow_to(whole, name, meant)
    if format_name == "json":
        write_result(render(report, Presentation(__version__)), None)
    else:
        write_result(_full(report, tree, meant, wants_color(sys.stdout)), None)
    context.exit(report_failures(whole))


def _full(report: ScanReport, source: Source, meant: tuple[Definition, ...], color: bool) -> str:
    from fusegen.codegen.decoding import decode
    from fusegen.codegen.report.site import render_site
    from fusegen.codegen.visible import printable, visible

    shown = [render_site(site, decode(source.read(site.file) or b""), color=color) for site in report.sites]
    asides = [
        f"{file.path}:{aside.line}: {aside.function} is no site: {aside.why}.\n"
        for file in printable(report).files
        for aside in file.asides
    ]
    if shown or asides:
        return "\n".join(shown + asides)
    unread = {failure.file for failure in report.failures}
    return "".join(
        f"{visible(each.file)}:{each.line}: {each.name}: no cross-entropy over a vocabulary was found in it, "
        "and no labels that it hands on.\n"
        for each in meant
        if each.file not in unread
    )
