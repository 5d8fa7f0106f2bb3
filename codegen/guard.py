"""A condition under which alone a match is equal: a value until the plan writes it, and a text for people."""

from __future__ import annotations

from dataclasses import dataclass

from fusegen.codegen.values import Value, describe


@dataclass(frozen=True, slots=True)
class Guard:
    """`value` must hold at run time; None: nothing that can be asked beforehand says it. `text` is never parsed."""

    value: Value | None
    text: str


def guard(value: Value) -> Guard:
    """The condition that a value is true, in the words of the report."""
    return Guard(value, describe(value))
