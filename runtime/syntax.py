"""How a function is written, as a text that other comments, docstrings, layout and versions of Python do not change."""

from __future__ import annotations

import ast
import threading
from collections.abc import Collection
from typing import Any

# `ast.parse` is not thread-safe in Python 3.11 ("AST constructor recursion depth mismatch", python/cpython#106905).
PARSING = threading.Lock()

_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def parsed(source: str | bytes) -> ast.Module:
    """The syntax tree of a text, from any thread. Raises `SyntaxError`."""
    with PARSING:
        return ast.parse(source)


def shape(node: Any, without: Collection[str] = ()) -> str:
    """A syntax tree as text: without positions, docstrings, empty fields, and the fields named in `without`."""
    if isinstance(node, list):
        return f"[{', '.join(shape(each, without) for each in node)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: value for name, value in ast.iter_fields(node) if name not in without}
    if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = fields["body"][1:]
    kept = (f"{name}={shape(value, without)}" for name, value in fields.items() if value is not None and value != [])
    return f"{type(node).__name__}({', '.join(kept)})"
