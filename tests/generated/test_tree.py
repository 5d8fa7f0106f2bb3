"""The generated tree as a whole: it fits the transformers that is installed, and it only adds a branch."""

from __future__ import annotations

import builtins
import dis
import hashlib
import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

import pytest
import transformers

import fusegen.generated
from fusegen.codegen.index import FileIndex
from fusegen.codegen.splice import unsplice

GENERATED = Path(fusegen.generated.__file__).parent
MANIFEST = json.loads((GENERATED / "manifest.json").read_text(encoding="utf-8"))
METHODS = MANIFEST["classes"]
FILES = {entry["file"]: entry for entry in METHODS}
TRANSFORMERS = Path(transformers.__file__).parent

pytestmark = pytest.mark.skipif(
    transformers.__version__ != MANIFEST["source"]["version"],
    reason=f"generated from transformers {MANIFEST['source']['version']}",
)


def original_and_generated(entry: dict) -> tuple[FunctionType, FunctionType]:
    source = importlib.import_module("transformers." + entry["file"].removesuffix(".py").replace("/", "."))
    generated = importlib.import_module(f"fusegen.generated.{entry['module']}")
    return tuple(vars(getattr(module, entry["class"]))[entry["method"]] for module in (source, generated))


def decorators(function: FunctionType) -> list[str]:
    """Those of transformers, outermost first: the runtime adds one of its own around some (`runtime/tuples.py`)."""
    found = []
    while hasattr(function, "__wrapped__"):
        if not function.__globals__["__name__"].startswith("fusegen.runtime"):
            found.append(function.__code__.co_qualname)
        function = function.__wrapped__
    return found


def global_names(code: CodeType) -> Iterator[str]:
    yield from (step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from global_names(constant)


def test_every_generated_forward_can_be_called_like_its_original() -> None:
    differing = {}
    for entry in METHODS:
        original, generated = original_and_generated(entry)
        if inspect.signature(original) != inspect.signature(generated) or decorators(original) != decorators(generated):
            differing[entry["class"]] = inspect.signature(generated)
    assert not differing


def test_every_name_means_what_it_means_in_the_original() -> None:
    wrong = []
    for entry in METHODS:
        original, generated = map(inspect.unwrap, original_and_generated(entry))
        theirs, ours = original.__globals__, generated.__globals__
        for name in set(global_names(generated.__code__)):
            known = name in ours or hasattr(builtins, name)
            if not known or (name in theirs and ours.get(name, theirs[name]) is not theirs[name]):
                wrong.append(f"{entry['class']}: {name}")
    assert not wrong


def test_no_generated_module_is_missing_from_the_manifest() -> None:
    modules = {path.relative_to(GENERATED) for path in GENERATED.rglob("*.py") if path.name != "__init__.py"}
    assert modules == {Path(entry["module"].replace(".", "/") + ".py") for entry in METHODS}


def test_the_hashes_are_those_of_the_installed_files() -> None:
    hashes = {file: hashlib.sha256((TRANSFORMERS / file).read_bytes()).hexdigest() for file in FILES}
    assert hashes == {file: entry["sha256"] for file, entry in FILES.items()}


@pytest.mark.slow
def test_without_its_branch_every_forward_is_the_original_to_the_byte() -> None:
    originals = {file: FileIndex((TRANSFORMERS / file).read_text(encoding="utf-8")) for file in FILES}
    changed = []
    for entry in METHODS:
        path = GENERATED / (entry["module"].replace(".", "/") + ".py")
        ours = FileIndex(path.read_text(encoding="utf-8")).classes[entry["class"]].methods[entry["method"]]
        theirs = originals[entry["file"]].classes[entry["class"]].methods[entry["method"]]
        if unsplice(ours.text).rstrip() != theirs.text.rstrip():
            changed.append(entry["class"])
    assert not changed
