"""Unified diffs that `git apply` and `patch -p1` accept, and that a person reads.

file_diff("models/x.py", "old\\n", "new\\n")    a change
file_diff("models/x.py", None, "new\\n")       a new file
file_diff("models/x.py", "old\\n", None)       a removed one
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff

_NOWHERE = "/dev/null"
_NO_LINE_FEED = "\\ No newline at end of file\n"


def file_diff(path: str, before: str | None, after: str | None) -> str:
    """The diff of one file, empty if nothing differs; None on a side stands for no file.

    Lines end at line feeds only, as git sees them: a carriage return or a form feed is part of its line.
    """
    if before == after:
        return ""
    head = [f"diff --git a/{path} b/{path}\n"]
    if before is None:
        head.append("new file mode 100644\n")
    elif after is None:
        head.append("deleted file mode 100644\n")
    names = (f"a/{path}" if before is not None else _NOWHERE, f"b/{path}" if after is not None else _NOWHERE)
    return "".join([*head, *_hunks(_lines(before), _lines(after), names)])


def _hunks(before: list[str], after: list[str], names: tuple[str, str]) -> Iterator[str]:
    for line in unified_diff(before, after, *names):
        yield line if line.endswith("\n") else f"{line}\n{_NO_LINE_FEED}"


def _lines(text: str | None) -> list[str]:
    pieces = (text or "").split("\n")
    return [f"{piece}\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
