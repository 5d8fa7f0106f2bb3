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
    metavar="DIR",
    help="A tree that 'fusegen emit' wrote.  [default: the one that ships, which fusegen.install() takes]",
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
    generated: Path | None,
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
    if generated is None:
        generated = _shipped_tree()
        note(f"Verifying the tree that ships, which fusegen.install() takes: {generated}", verbosity)
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


def _shipped_tree() -> Path:
    """The folder of the tree that `fusegen.install()` takes, from here where that is shorter."""
    from importlib.util import find_spec

    from fusegen.cli.terminal import Refused
    from fusegen.contract.package import SHIPPED_TREE

    spec = find_spec(SHIPPED_TREE)
    if spec is None or not spec.submodule_search_locations:
        raise Refused(f"there is no {SHIPPED_TREE} beside {__package__}. Name a tree: --generated DIR")
    folder = Path(next(iter(spec.submodule_search_locations)))
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _verification() -> Callable[..., VerifyReport]:
    """The function that verifies; a refusal where torch or transformers is not installed."""
    from fusegen.cli.terminal import Refused

    _assert_supported()
    try:
        from fusegen.verify.verification import verify
    except ImportError as error:
        raise Refused(f"{error}. Install the extra: pip install 'fusegen[runtime]'.") from error
    return verify


def _assert_supported() -> None:
    """A refusal for a transformers that is older than what can be verified; one that is missing is found later."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.version import Version

    from fusegen.cli.terminal import Refused
    from fusegen.contract.package import OLDEST_TRANSFORMERS

    try:
        installed = version("transformers")
    except PackageNotFoundError:
        return
    if Version(installed) < Version(OLDEST_TRANSFORMERS):
        raise Refused(
            f"transformers {installed} is older than {OLDEST_TRANSFORMERS}, the oldest release that can be verified. "
            "Upgrade it: pip install -U transformers"
        )
