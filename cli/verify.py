"""`fusegen verify`: every generated forward against its original, on tiny random models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusegen.cli.options import comma_separated, output_file_option

if TYPE_CHECKING:
    from fusegen.verify.records import VerifyReport


@click.command("verify")
@click.argument("models", nargs=-1, metavar="[MODEL]...", callback=comma_separated)
@click.option(
    "--generated",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("generated"),
    show_default=True,
    metavar="DIR",
    help="The tree that 'fusegen emit' wrote.",
)
@click.option(
    "--checks",
    type=click.Choice(("core", "all")),
    default="core",
    show_default=True,
    help="all adds the label smoother, fp16, autocast, tying, checkpointing and torch.compile.",
)
@click.option("--jobs", "-j", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: one per processor]")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(("full", "json", "markdown")),
    default="full",
    show_default=True,
    help="json and markdown are tables of classes and checks with the numbers.",
)
@output_file_option
@click.option("--record", is_flag=True, help="Write the verdicts into manifest.json and report.html of the tree.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
@click.option("-v", "--verbose", count=True, help="List every class; twice: every check.")
@click.pass_context
def command(
    context: click.Context,
    models: tuple[str, ...],
    generated: Path,
    checks: str,
    jobs: int | None,
    format_name: str,
    output_file: Path | None,
    record: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Show for each class that the generated forward computes what the original computes.

    MODEL is a model folder, a class or a pattern (gemma*), several separated by commas; without one, the whole tree is
    verified. Needs the extra `runtime` (torch and transformers).

    Exit status: 1 if a class differs, is not fused where it should be, is unproven (a check was skipped, or leaving
    an operation out would not have shown), was generated from another source than the installed one, could not be
    compared to the end, or is recorded as verified and cannot be built any more. What cannot be built here, or
    raises by itself in stock transformers, is listed and is no failure.
    """
    from fusegen.cli.terminal import Refused, note, progress_bar, write_result
    from fusegen.codegen.writer import WriteError
    from fusegen.verify.recording import record as record_verdicts
    from fusegen.verify.rendering import render
    from fusegen.verify.targets import TargetError, read_targets

    verbosity = -1 if quiet else verbose
    try:
        targets = read_targets(generated, models)
        verify = _verification()
        with progress_bar("Verifying", verbosity) as progress:
            report = verify(targets, generated, checks=checks, jobs=jobs, progress=progress)
        write_result(render(report, format_name, verbose), output_file)
        if record:
            note(f"{record_verdicts(report, generated)} entries of {generated}/manifest.json are verified.", verbosity)
    except (TargetError, WriteError) as error:
        raise Refused(str(error)) from error
    context.exit(1 if report.failed else 0)


def _verification() -> Callable[..., VerifyReport]:
    """The function that verifies; a refusal where torch or transformers is not installed."""
    from fusegen.cli.terminal import Refused

    try:
        from fusegen.verify.verification import verify
    except ModuleNotFoundError as error:
        raise Refused(f"{error}. Install the extra: pip install 'fusegen[runtime]'.") from error
    return verify
