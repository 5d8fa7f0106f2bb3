"""Colours for a terminal."""

from __future__ import annotations

from fusegen.codegen.records import DELEGATED, MATCH, REJECT

VERDICT_COLORS = {MATCH: "green", REJECT: "red", DELEGATED: "yellow"}

_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}


class Pen:
    """Colours text, or leaves it alone."""

    def __init__(self, color: bool) -> None:
        self._color = color

    def __call__(self, style: str, text: str) -> str:
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self._color and text else text
