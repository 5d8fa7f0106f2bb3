"""`fusegen rule`: what a reason code means, why it matters and what would make such a site fusible."""

from __future__ import annotations

import re
import sys

import click

_OF_THE_RUNTIME = re.compile("FG5[0-9]{2}")


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
    """Explain a reason code (FG203, or its name), or list them all."""
    from fusegen.cli.terminal import wants_color, write_result
    from fusegen.codegen.reasons import REASONS
    from fusegen.codegen.report.rules import render_json, render_list, render_rule

    chosen = [REASONS[_code(code)]] if code else [REASONS[known] for known in sorted(REASONS)]
    color = wants_color(sys.stdout)
    if format_name == "json":
        text = render_json(chosen)
    elif code:
        text = render_rule(chosen[0], color=color)
    else:
        text = render_list(chosen, color=color)
    write_result(text, None)


def _code(word: str) -> str:
    from difflib import get_close_matches

    from fusegen.cli.terminal import Refused
    from fusegen.codegen.reasons import REASONS

    names = {reason.name: code for code, reason in REASONS.items()}
    code = names.get(word.lower(), word.upper())
    if code in REASONS:
        return code
    if _OF_THE_RUNTIME.fullmatch(word.upper()):
        raise Refused(
            f"{word.upper()} says why a forward was left alone at run time. Its sentence stands beside it in the log "
            "and in fusegen.audit(); this command explains what `fusegen scan` and `fusegen emit` say."
        )
    close = get_close_matches(word.upper(), REASONS, n=3) or get_close_matches(word.lower(), names, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else "Run 'fusegen rule' for the list."
    raise Refused(f"there is no reason code {word!r}. {hint}")
