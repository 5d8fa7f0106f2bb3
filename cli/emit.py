"""`fusegen emit`: patched modeling files for the matches of a transformers tree."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from fusegen import __version__
from fusegen.cli.options import comma_separated, tree_options


@click.command("emit")
@tree_options
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("generated"),
    show_default=True,
    metavar="DIR",
    help="The folder that shall hold the generated package.",
)
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if the folder is not what would be written.")
@click.option(
    "--model",
    multiple=True,
    callback=comma_separated,
    metavar="NAMES",
    help="These models only: the folder then holds no others.",
)
@click.pass_context
def command(
    context: click.Context,
    source: str,
    jobs: int | None,
    quiet: bool,
    verbose: int,
    out: Path,
    check: bool,
    model: tuple[str, ...],
) -> None:
    """Write patched modeling files for every match that can be emitted.

    A match that cannot be emitted yet is counted by its reason, listed with -v, and stands in manifest.json.
    """
    from fusegen.cli.reading import model_names, opened, show_failures
    from fusegen.cli.terminal import Refused, note, progress_bar, start_logging
    from fusegen.codegen.emit import emit
    from fusegen.codegen.reasons import REASONS
    from fusegen.codegen.writer import WriteError, compare, write

    verbosity = -1 if quiet else verbose
    start_logging(verbosity)
    tree = opened(source)
    with progress_bar("Generating", verbosity) as progress:
        emission = emit(tree, __version__, jobs=jobs, models=model_names(tree, model), progress=progress)
    try:
        changes = compare(out, emission.files) if check else write(out, emission.files)
    except (WriteError, OSError) as error:
        raise Refused(str(error)) from error
    status = 2 if show_failures(emission.failures) else 0
    models = len({site.model for site in emission.emitted})
    click.echo(f"{len(emission.emitted)} forwards of {models} models {'checked' if check else 'generated'} in {out}")
    for code, count in sorted(Counter(each.code for each in emission.not_emitted).items()):
        click.echo(f"{count:4} {code} {REASONS[code].summary}")
        if verbosity > 0:
            for each in emission.not_emitted:
                if each.code == code:
                    click.echo(f"       {each.site} (line {each.line}): {each.detail}")
    if check and changes:
        for path in (*changes.written[:20], *changes.removed[:20]):
            note(f"would change: {out / path}", verbosity)
        note(f"{out} is not what `fusegen emit` would write; run it without --check.", verbosity)
        status = status or 1
    context.exit(status)
