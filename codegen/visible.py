r"""Text for people in which nothing acts on a terminal or moves what stands beside it.

visible("a\x1b[2J\n")    a\x1b[2J\n      what controls is spelled, as Python spells it

File names and lines of source hold whatever their author liked: escape sequences, line feeds, letters that turn the
direction of what follows.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

# Control characters, separators of lines, turns of direction, halves of letters.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Fields that hold lines of source as they stand.
_OF_LINES = frozenset({"excerpt", "lines"})

Record = TypeVar("Record")


def visible(text: str, keep: str = "") -> str:
    """`text` with every character that controls escaped, but for those in `keep`."""
    if text.isprintable():
        return text
    return _CONTROLS.sub(lambda found: found[0] if found[0] in keep else _spelled(found[0]), text)


def visible_lines(text: str) -> str:
    """The same for text of several lines, which keeps its line feeds and tabs."""
    return visible(text, "\n\t")


def printable(record: Record, keep: str = "") -> Record:
    """A record, and all records in it, with visible text; `keep` is as for `visible`."""
    if not is_dataclass(record) or isinstance(record, type):
        return record
    changed = {}
    for field in fields(record):
        value = getattr(record, field.name)
        shown = _shown(value, "\n\t" if field.name in _OF_LINES else keep)
        if shown is not value:
            changed[field.name] = shown
    return replace(record, **changed) if changed else record


def json_text(text: str) -> str:
    """JSON that was written with `ensure_ascii=False`, in which what controls is escaped as JSON has it."""
    return _CONTROLS.sub(lambda found: found[0] if found[0] in "\n\t" else f"\\u{ord(found[0]):04x}", text)


def _shown(value: Any, keep: str) -> Any:
    if isinstance(value, str):
        return visible(value, keep)
    if isinstance(value, tuple):
        items = tuple(_shown(item, keep) for item in value)
        return value if all(item is other for item, other in zip(items, value, strict=True)) else items
    return printable(value, keep)


def _spelled(letter: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(letter)
    # A byte of a file name that is no text is half a letter.
    number = ord(letter) - 0xDC00 if 0xDC80 <= ord(letter) <= 0xDCFF else ord(letter)
    return short or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")
