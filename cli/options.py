"""Options that several commands share, spelled once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fusegen.cli.settings import load

Decorated = Callable[..., Any]


def source_option(function: Decorated) -> Decorated:
    return click.option(
        "--source",
        default="installed",
        show_default=True,
        metavar="PATH|WHEEL|VERSION|installed",
        help="The transformers tree: a directory, a wheel, an sdist, a version such as 5.5.4, or 'installed'.",
    )(function)


def output_file_option(function: Decorated) -> Decorated:
    return click.option(
        "--output-file",
        "-o",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write the result there instead of to stdout.",
    )(function)


def reading_options(function: Decorated) -> Decorated:
    """`--cache` and the options of `tree_options`: what every command that scans a tree takes."""
    cache = click.option("--cache/--no-cache", default=True, help="Use what earlier runs found in unchanged files.")
    return tree_options(cache(function))


def tree_options(function: Decorated) -> Decorated:
    """`--source`, `--jobs`, `--config`, `-q` and `-v`: what every command that reads a tree takes."""
    for decorate in (
        click.option("-v", "--verbose", count=True, help="List what is otherwise counted; twice: log more."),
        click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors."),
        click.option(
            "--config",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            is_eager=True,
            expose_value=False,
            callback=load,
            help="Read [tool.fusegen] from this file, not from the nearest pyproject.toml.",
        ),
        click.option(
            "--jobs", "-j", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: one per processor]"
        ),
        source_option,
    ):
        function = decorate(function)
    return function


def comma_separated(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...] | list[str]
) -> tuple[str, ...]:
    """A callback: `--select FG2,soft_cap --select mask` is three terms."""
    return tuple(word.strip() for value in values for word in value.split(",") if word.strip())
