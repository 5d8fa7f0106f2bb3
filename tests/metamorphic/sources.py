"""Forwards to rewrite: those of the matched cases, and those of the installed transformers, each in a small module.

A forward of transformers keeps of its file what is needed to read and to run it: its class, the classes of its head,
functions and constants that they use. The rest are stubs. A cut that changes what is found is not used.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from stubs import BATCH, LENGTH, VOCABULARY, WIDTH, Setting, labels

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases" / "linear_cross_entropy"
_BODY = re.compile(r"(Model|Encoder|Decoder|Attention|Layer|Config|Embeddings?)$|Output")
_LONGEST = 90  # lines of a class that may be part of a head

MASK = torch.tensor([[True, False] * 3, [False, True] * 3])
COUNTED = labels().clamp(min=0)
# What a case needs to run fused, where its names do not say it.
GIVEN: dict[str, Setting] = {
    "boolean_rows": Setting(arguments={"bool_masked_pos": MASK, "labels": labels()[MASK]}),
    "criterion_in_one_line": Setting(arguments={"labels": COUNTED}),
    "functional_cross_entropy": Setting(arguments={"labels": COUNTED}),
    "losses_in_two_branches": Setting(arguments={"pair_labels": torch.tensor([0, 1])}),
    "rows_chosen_in_branches": Setting({"image_tokens": 0}),
    "run_inside_an_if": Setting(
        {"adaptive": False, "vocab_size": VOCABULARY}, {"x": torch.randn(BATCH, LENGTH, WIDTH), "y": COUNTED}
    ),
    "slice_width_guarded": Setting({"kept": VOCABULARY}),
    "tuple_filtered": Setting(arguments={"return_dict": True}),
    "z_loss_under_config": Setting({"z_loss_coefficient": 0}),
}


@dataclass(frozen=True, slots=True)
class Source:
    """A forward to rewrite: a name for people, the text of its module, its class; what was found in the whole file."""

    name: str
    text: str
    owner: str | None = None
    chain: tuple[str, ...] | None = None


def cases() -> list[str]:
    """The names of the sources that are cases."""
    emitted = (ROOT / "tests" / "cases" / "linear_cross_entropy_after").glob("*.py")
    return sorted(f"case {path.stem}" for path in emitted if "fusible(" in path.read_text())


@functools.cache
def _installed() -> dict[str, dict[str, object]]:
    entries = json.loads((ROOT / "generated" / "manifest.json").read_text())["classes"]
    return {f"{entry['model']}.{entry['class']}": entry for entry in entries if entry["method"] == "forward"}


def installed() -> list[str]:
    """The names of the sources that are forwards of transformers."""
    return sorted(_installed())


def source(name: str) -> Source:
    """A source by its name."""
    if name.startswith("case "):
        return Source(name, (CASES / f"{name.removeprefix('case ')}.py").read_bytes().decode())
    entry = _installed()[name]
    spec = importlib.util.find_spec("transformers")
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / str(entry["file"])).read_text(encoding="utf-8")
    chain = tuple(step["op"] for step in entry["chain"])  # type: ignore[attr-defined]
    return Source(name, _cut(text, str(entry["class"])), str(entry["class"]), chain)


def _cut(text: str, owner: str) -> str:
    """The module with the class and what it needs of the file around it."""
    tree = ast.parse(text)
    defined = {each.name: each for each in tree.body if isinstance(each, ast.ClassDef | ast.FunctionDef)}
    constants = {
        name: each for each in tree.body if isinstance(each, ast.Assign | ast.AnnAssign) for name in _targets(each)
    }
    kept: dict[int, ast.stmt] = {}
    wanted = [owner]
    while wanted:
        name = wanted.pop()
        node = defined.get(name) or constants.get(name)
        if node is None or id(node) in kept or (name != owner and not _is_small(node)):
            continue
        kept[id(node)] = node
        if isinstance(node, ast.ClassDef):
            node.body = [each for each in node.body if _is_needed(each, node)] or [ast.Pass()]
        wanted += _used(node)
    imports = [each for each in tree.body if isinstance(each, ast.Import | ast.ImportFrom)]
    body = [each for each in tree.body if each in imports or id(each) in kept]
    for node in ast.walk(ast.Module(body, [])):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(ast.Module(body, []))


def _targets(statement: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
        yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))


def _is_small(node: ast.stmt) -> bool:
    lines = (node.end_lineno or 0) - node.lineno
    return lines <= _LONGEST and not (isinstance(node, ast.ClassDef) and _BODY.search(node.name))


def _is_needed(each: ast.stmt, owner: ast.ClassDef) -> bool:
    """Whether a part of a class may matter: `generate` and its like are left out."""
    if not isinstance(each, ast.FunctionDef):
        return True
    called = {
        n.attr
        for part in owner.body
        if isinstance(part, ast.FunctionDef) and part.name in ("forward", "__init__")
        for n in ast.walk(part)
        if isinstance(n, ast.Attribute)
    }
    return each.name in ("__init__", "forward") or each.name in called


def _used(node: ast.stmt) -> list[str]:
    return [each.id for each in ast.walk(node) if isinstance(each, ast.Name)]
