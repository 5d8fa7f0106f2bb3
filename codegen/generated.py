"""Two trees that `fusegen emit` wrote, side by side: unified diffs of the forwards that differ."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path

from fusegen.codegen.layouts import PATCH
from fusegen.codegen.manifest import MANIFEST

CHANGE_KINDS = ("changed", "added", "removed")


class GeneratedError(ValueError):
    """A folder that holds no generated tree, or a damaged one; says what to do."""


@dataclass(frozen=True, slots=True)
class ForwardChange:
    """A generated method that only one side has, or that differs: `kind` is `added`, `removed` or `changed`.

    `diff` is the unified diff of the two texts; empty for one that only one side has.
    """

    kind: str
    id: str
    file: str
    diff: str = ""


@dataclass(frozen=True, slots=True)
class GeneratedDiff:
    """What differs between two generated trees, by file and id, and how many forwards are the same."""

    changes: tuple[ForwardChange, ...]
    unchanged: int


@dataclass(frozen=True, slots=True)
class _Forward:
    id: str
    file: str
    text: str


def diff_generated(old: Path, new: Path, models: tuple[str, ...] = ()) -> GeneratedDiff:
    """Compare the methods that two manifests name, of the models that the patterns in `models` name (all, if none).

    Raises `GeneratedError` if a folder is no generated tree.
    """
    before, after = ({each.id: each for each in _forwards(folder, models)} for folder in (old, new))
    changes: list[ForwardChange] = []
    unchanged = 0
    for id in sorted(before.keys() | after.keys()):
        was, now = before.get(id), after.get(id)
        if was is None or now is None:
            only = was or now
            assert only is not None
            changes.append(ForwardChange("added" if was is None else "removed", id, only.file))
        elif was.text == now.text:
            unchanged += 1
        else:
            lines = unified_diff(
                was.text.splitlines(keepends=True),
                now.text.splitlines(keepends=True),
                f"{(old / was.file).as_posix()} {id}",
                f"{(new / now.file).as_posix()} {id}",
            )
            changes.append(ForwardChange("changed", id, now.file, "".join(lines)))
    changes.sort(key=lambda change: (change.file, change.id))
    return GeneratedDiff(tuple(changes), unchanged)


def _forwards(folder: Path, models: tuple[str, ...]) -> Iterator[_Forward]:
    manifest = folder / MANIFEST
    try:
        document = json.loads(manifest.read_bytes())
        entries = [each for each in document["classes"] if _is_named(each["model"], models)]
        files: dict[str, list[tuple[str, str, str]]] = {}
        for entry in entries:
            name = ".".join((entry["model"], entry["class"], entry["method"]))
            file = entry["module"].replace(".", "/") + ".py"
            files.setdefault(file, []).append((name, entry["class"], entry["method"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GeneratedError(
            f"{folder} holds no generated tree ({error}). Write one: fusegen emit --out DIR"
        ) from error
    if document.get("layout") == PATCH:
        raise GeneratedError(f"{folder} holds patches. Compare folders of another --layout, or these with diff -r.")
    for file, wanted in sorted(files.items()):
        try:
            text = (folder / file).read_text(encoding="utf-8")
            methods = _methods(text)
            yield from (_Forward(id, file, methods[owner, method]) for id, owner, method in wanted)
        except (OSError, SyntaxError, KeyError, UnicodeDecodeError) as error:
            raise GeneratedError(
                f"{folder / file} does not hold what {MANIFEST} says ({error}). Generate the folder again."
            ) from error


def _is_named(model: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(model, pattern) for pattern in patterns)


def _methods(text: str) -> dict[tuple[str, str], str]:
    """The text of every method, its decorators with it."""
    lines = StringIO(text).readlines()  # ends lines where the parser does: not at a form feed
    found: dict[tuple[str, str], str] = {}
    for owner in ast.parse(text).body:
        if isinstance(owner, ast.ClassDef):
            for node in owner.body:
                if isinstance(node, ast.FunctionDef):
                    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                    found[owner.name, node.name] = "".join(lines[first - 1 : node.end_lineno])
    return found
