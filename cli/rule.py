"""`fusegen rule`: what a reason code means, why it matters and what would make such a site or call fusible."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fusegen.contract.reasons import Reason


@click.command("rule")
@click.argument("code", required=False)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(("full", "json")),
    default="full",
    show_default=True,
    help="json has every field of the codes.",
)
def command(code: str | None, format_name: str) -> None:
    """Explain a reason code (FG203, or its name), or list all: those of what is read and of a running program."""
    from fusegen.cli.terminal import wants_color, write_result
    from fusegen.codegen.report.rules import render_json, render_list, render_rule

    known = every_reason()
    chosen = [known[_code(code, known)]] if code else list(known.values())
    color = wants_color(sys.stdout)
    if format_name == "json":
        text = render_json(chosen)
    elif code:
        text = render_rule(chosen[0], color=color)
    else:
        text = render_list(chosen, color=color)
    write_result(text, None)


def every_reason() -> dict[str, Reason]:
    """The reason behind each code that any part of fusegen prints, in the order of the codes."""
    from fusegen.codegen import reasons
    from fusegen.contract import reasons as contract

    return dict(sorted({**reasons.REASONS, **contract.REASONS}.items()))


def _code(word: str, known: dict[str, Reason]) -> str:
    from difflib import get_close_matches

    from fusegen.cli.terminal import Refused

    names = {reason.name: code for code, reason in known.items()}
    code = names.get(word.lower(), word.upper())
    if code in known:
        return code
    close = get_close_matches(word.upper(), known, n=3) or get_close_matches(word.lower(), names, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else "Run 'fusegen rule' for the list."
    raise Refused(f"there is no reason code {word!r}. {hint}")
