"""Which paths may be joined to a folder: relative, with forward slashes, and below it on every system.

llama/modeling_llama.py                                           may
../x.py   /x.py   a\\b.py   C:x.py   a//b.py   ./a.py   a/        may not
"""

from __future__ import annotations

import keyword
import sys
from collections.abc import Iterable

from fusegen.codegen.layouts import PATCH
from fusegen.codegen.records import Failure


def why_not_below(path: str) -> str | None:
    """Why a path may lead out of the folder that it is joined to; None if it cannot."""
    if path.startswith("/"):
        return "it is absolute"
    if "\\" in path:
        return "it has a backslash"
    if ":" in path:
        return "it has a colon, as a drive or a stream has"
    parts = path.split("/")
    if ".." in parts:
        return "it leads upwards"
    if "" in parts or "." in parts or "\0" in path:
        return "it is no plain path"
    return None


def why_not_a_tree(paths: Iterable[str]) -> tuple[str, str] | None:
    """A path that cannot be written below a folder together with the others, on every system, and why; None if all can.

    Files that differ in case only are one file on some systems.
    """
    seen: dict[str, str] = {}
    for path in paths:
        if why := why_not_below(path):
            return path, why
        if (other := seen.setdefault(path.casefold(), path)) != path:
            return path, f"it differs from {other} in case only"
    for folded, path in seen.items():
        above = folded
        while above := above.rpartition("/")[0]:
            if above in seen:
                return path, f"{seen[above]} is a file"
    return None


def why_not_placed(layout: str, package: str, path: str) -> str | None:
    """Why nothing can be generated for a modeling file with this path, where its name is the reason.

    Generated modules import their original by its name; a patch names it in a line of its own.
    """
    for part in (*package.split("."), *path.removesuffix(".py").split("/")) if layout != PATCH else ():
        if part and (not part.isidentifier() or keyword.iskeyword(part)):
            return f"`{part}` is no name in Python, and what is generated imports its original by its name"
    if not path.isprintable() or any(sign in path for sign in "\\\"'"):
        return "a patch cannot spell the path of the file"
    return None


def readable_names(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[Failure, ...]]:
    """The names that are text, and a failure for each that is not UTF-8, under the name with its bytes escaped."""
    good: list[str] = []
    odd: list[Failure] = []
    for name in names:
        spelled = escaped_bytes(name)
        if spelled == name:
            good.append(name)
        else:
            why = f"cannot be read: its name is not {sys.getfilesystemencoding().upper()}"
            odd.append(Failure(spelled, 0, why))
    return tuple(good), tuple(odd)


def escaped_bytes(name: str) -> str:
    """A name of the file system with bytes that are no UTF-8 as `\\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
