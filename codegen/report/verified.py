"""The part of report.html that says what was verified: forward by check, with the numbers.

It is made from manifest.json alone and stands between two marks: `fusegen verify --record` puts a new one there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fusegen.codegen.report.page import Verification
from fusegen.codegen.templating import template

BEGIN, END = "<!-- verified: begin -->", "<!-- verified: end -->"


def verifications(classes: Iterable[Mapping[str, Any]]) -> tuple[Verification, ...]:
    """The `verified` fields of the entries of a manifest."""
    return tuple(
        Verification(
            f"{entry['model']}.{entry['class']}.{entry['method']}",
            found["version"],
            found["checks"],
            found.get("errors"),
        )
        for entry in classes
        if (found := entry.get("verified"))
    )


def section(verified: tuple[Verification, ...]) -> str:
    """The marks, and between them the table; nothing between them if nothing is verified."""
    return template("verified.html.j2").render(begin=BEGIN, end=END, verified=verified, checks=_columns(verified))


def renewed(page: str, classes: Iterable[Mapping[str, Any]]) -> str:
    """report.html with the table for the entries of a manifest; as it is if it has no marks."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{section(verifications(classes))}{after}" if end else page


def _columns(verified: tuple[Verification, ...]) -> list[str]:
    """Every check once, in the order of the lists that leave some out."""
    names: list[str] = []
    for each in verified:
        at = 0
        for name in each.checks:
            if name not in names:
                names.insert(at, name)
            at = names.index(name) + 1
    return names
