"""Which classes are to be verified: those that a generated tree holds, and those that it matched and left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Target:
    """A class with a vocabulary loss.

    `head` and `chain` are those of the manifest, for the first emitted method; `emitted` is False for a match
    that the generated tree leaves out: its original is still built and trained.
    """

    model: str
    class_name: str
    source_module: str
    module: str | None = None
    method: str = "forward"
    head: str | None = None
    chain: tuple[Mapping[str, str], ...] = ()
    emitted: bool = True

    @property
    def id(self) -> str:
        return f"{self.model}.{self.class_name}"


def read_manifest(generated: Path) -> dict[str, Any]:
    """The manifest of a generated tree; raises `FileNotFoundError` if the folder has none."""
    manifest: dict[str, Any] = json.loads((generated / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def read_targets(generated: Path, patterns: tuple[str, ...] = ()) -> tuple[Target, ...]:
    """Every class of a generated tree, or those whose model, name or id is like one of the patterns.

    Raises:
        FileNotFoundError: the folder has no manifest.json.
        LookupError: a pattern is like none of them; the message names it.
        ValueError: the folder holds another layout than that of classes.
    """
    manifest = read_manifest(generated)
    layout = manifest.get("layout", "class")
    if layout != "class":
        raise ValueError(f"{generated} is of --layout {layout}, and only what can be installed is verified")
    unique = {target.id: target for target in reversed([*_emitted(manifest), *_left_out(manifest)])}
    known = tuple(sorted(unique.values(), key=lambda target: target.id))
    for pattern in patterns:
        if not any(_is_like(target, pattern) for target in known):
            raise LookupError(f"{generated} holds no model or class {pattern!r}")
    return tuple(each for each in known if not patterns or any(_is_like(each, pattern) for pattern in patterns))


def _is_like(target: Target, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in (target.model, target.class_name, target.id))


def _emitted(manifest: Mapping[str, Any]) -> Iterator[Target]:
    package = manifest["source"]["package"]
    for entry in manifest["classes"]:
        yield Target(
            model=entry["model"],
            class_name=entry["class"],
            source_module=_dotted(package, entry["file"]),
            module=entry["module"],
            method=entry["method"],
            head=entry.get("head"),
            chain=tuple(entry.get("chain", ())),
        )


def _left_out(manifest: Mapping[str, Any]) -> Iterator[Target]:
    package = manifest["source"]["package"]
    spec = find_spec(package)
    root = Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else Path()
    for entry in manifest["not_emitted"]:
        model, class_name, method = entry["site"].split(".")
        file = _file_of(root, model, class_name)
        if file is not None:
            yield Target(model, class_name, _dotted(package, file), method=method, emitted=False)


def _file_of(root: Path, model: str, class_name: str) -> str | None:
    """The modeling file of a model folder that defines a class, relative to the package."""
    for path in sorted((root / "models" / model).glob("modeling_*.py")):
        if f"\nclass {class_name}(" in path.read_text(encoding="utf-8"):
            return path.relative_to(root).as_posix()
    return None


def _dotted(package: str, file: str) -> str:
    return f"{package}.{file.removesuffix('.py').replace('/', '.')}"
