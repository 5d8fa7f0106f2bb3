"""`fusegen emit`: patched modeling files for the matches of a transformers tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fusegen import __version__
from fusegen.cli.options import reading_options, selecting_options
from fusegen.codegen.layouts import CLASS, LAYOUTS

if TYPE_CHECKING:
    from fusegen.codegen.emit import Emission
    from fusegen.codegen.records import Site
    from fusegen.codegen.selection import Selection
    from fusegen.codegen.sources import Source
    from fusegen.codegen.writer import Changes

_NAMED_AT_MOST = 20


@click.command("emit")
@reading_options
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("generated"),
    show_default=True,
    metavar="DIR",
    help="The folder that shall hold the generated package.",
)
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    default=CLASS,
    show_default=True,
    help="class: the patched classes, for fusegen.install; full: complete modeling files, for people who vendor a "
    "model; patch: a diff for each file, for git apply --directory=src/transformers.",
)
@selecting_options
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if the folder is not what would be written.")
@click.option("--diff", is_flag=True, help="Write nothing; print what would change as a unified diff.")
@click.option(
    "--force",
    is_flag=True,
    help="Drop forwards of the folder that were not asked for, that are of another source or layout, or whose source "
    "cannot be read.",
)
@click.pass_context
def command(
    context: click.Context,
    source: str,
    jobs: int | None,
    cache: bool,
    quiet: bool,
    verbose: int,
    out: Path,
    layout: str,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    model: tuple[str, ...],
    check: bool,
    diff: bool,
    force: bool,
) -> None:
    """Write patched modeling files for every match that can be emitted.

    The folder then holds these and no others; where that drops what was not read or not asked for, only with --force.
    What is not emitted is counted by its reason, listed with -v, and stands in manifest.json and the report beside it.
    """
    from fusegen.cli.guard import Guard
    from fusegen.cli.reading import note_left_out, opened, parsed_terms, report_failures
    from fusegen.cli.terminal import Refused, note, start_logging, write_diff, write_result
    from fusegen.codegen.selection import Selection, UnknownTerm
    from fusegen.codegen.visible import visible
    from fusegen.codegen.writer import WriteError, assert_apart, differences

    verbosity = -1 if quiet else verbose
    start_logging(verbosity)
    tree = opened(source)
    selection = Selection(parsed_terms("select", select, tree), parsed_terms("ignore", ignore, tree))
    try:
        assert_apart(out, tree.location)
        emission = _emission(tree, out, layout, selection, model, jobs, cache, verbosity)
        note_left_out(tree, model, verbosity)
        status = report_failures(emission.report)
        if all(file.failures for file in emission.report.files):
            context.exit(status)
        if emission.report.ends_early:
            raise Refused(f"models may be missing from {tree.location}, so nothing is written to {out}.")
        if (unknown := emission.report.unknown_folders) and not force:
            why = f"what stands in {', '.join(unknown)} is not known"
            raise Refused(f"{why}, so nothing is written to {out}. Repair it, or give --force to go on without.")
        guard = Guard(emission, out, force)
        changes = guard.compared() if check or diff else guard.written()
        if diff:
            write_diff(differences(out, emission.files, changes))
    except UnknownTerm as error:
        raise click.BadParameter(str(error), param_hint="--select or --ignore") from error
    except (WriteError, OSError) as error:
        raise Refused(str(error)) from error
    written = not (check or diff)
    lines = [*_summary(emission, changes, out, verbosity, written=written), *guard.summary(written=written)]
    summary = "".join(f"{visible(line)}\n" for line in lines)
    if diff:
        click.echo(summary, nl=False, err=True)
    else:
        write_result(summary, None)
    if check and changes:
        _name_changes(out, changes, verbosity)
        status = status or 1
    if check and emission.failures:
        note(f"Not all of the source could be read, so whether {out} is what would be written is not known.", verbosity)
        status = 2
    context.exit(status)


def _emission(
    tree: Source,
    out: Path,
    layout: str,
    selection: Selection,
    models: tuple[str, ...],
    jobs: int | None,
    use_cache: bool,
    verbosity: int,
) -> Emission:
    """What is generated from `tree` for the folder `out`, with the user's cache and a bar on the terminal."""
    from fusegen.cli.reading import model_names, opened_cache
    from fusegen.cli.terminal import progress_bar
    from fusegen.codegen.emit import emit, file_outcome_from_json
    from fusegen.codegen.writer import read_manifest

    salts = (__version__, tree.package, tree.version, layout, selection)
    with progress_bar("Generating", verbosity) as progress:
        return emit(
            tree,
            __version__,
            jobs=jobs,
            models=model_names(tree, models),
            progress=progress,
            layout=layout,
            selection=selection,
            cache=opened_cache("emit", file_outcome_from_json, *salts) if use_cache else None,
            earlier=read_manifest(out),
        )


def _name_changes(out: Path, changes: Changes, verbosity: int) -> None:
    from fusegen.cli.terminal import note

    paths = (*changes.written, *changes.removed)
    for path in paths[:_NAMED_AT_MOST]:
        note(f"would change: {out / path}", verbosity)
    if len(paths) > _NAMED_AT_MOST:
        note(f"would change: {len(paths) - _NAMED_AT_MOST} more", verbosity)
    note(f"{out} is not what `fusegen emit` would write; run it without --check.", verbosity)


def _summary(emission: Emission, changes: Changes, out: Path, verbosity: int, *, written: bool) -> Iterator[str]:
    """What was emitted, then what was not: how many for each reason, with the sites themselves under -v."""
    from fusegen.codegen.report.wording import plural

    models = len({site.model for site in emission.emitted})
    yield (
        f"{plural(len(emission.emitted), 'forward')} of {plural(models, 'model')} "
        f"{'generated' if written else 'checked'} in {out}"
    )
    wrote, removed = len(changes.written), len(changes.removed)
    if wrote or removed:
        would = "" if written else "would be "
        yield f"{plural(wrote, 'file')} {would}written, {removed} {would}removed"
    reasons = _reasons(emission)
    for (code, summary), count in sorted(Counter((code, summary) for code, summary, _ in reasons).items()):
        yield f"{count:4} {code} {summary}"
        if verbosity > 0:
            yield from (f"       {detail}" for each, _, detail in reasons if each == code)


def _reasons(emission: Emission) -> list[tuple[str, str, str]]:
    """A code, what it means, and the details of each site that is not emitted."""
    from fusegen.codegen.reasons import REASONS
    from fusegen.codegen.records import DELEGATED, REJECT
    from fusegen.codegen.report.wording import place, reason_text

    def refused(site: Site) -> tuple[str, str, str]:
        if site.verdict == DELEGATED:
            return DELEGATED, "an inner module gets the labels and has the loss", f"{site.id} to {site.delegated_to}"
        code = site.code or REJECT
        return code, REASONS[code].summary if code in REASONS else "refused", f"{place(site)} {reason_text(site)}"

    return [
        *(
            (each.code, REASONS[each.code].summary, f"{each.site} (line {each.line}): {each.detail}")
            for each in emission.not_emitted
        ),
        *(refused(site) for site in emission.report.sites if site.verdict in (REJECT, DELEGATED)),
    ]
