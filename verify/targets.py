"""Which classes are to be verified: those that a generated tree holds, and those that it matched and left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fusegen.codegen.selection import close_names

Chain = tuple[Mapping[str, str], ...]

MANIFEST = "manifest.json"
FIELD = "verified"


class TargetError(Exception):
    """A folder that cannot be verified, or a name that is not in it; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """A class with a vocabulary loss.

    Attributes:
        head, chain: those of the manifest, for the first emitted method.
        emitted: False for a match that the generated tree leaves out: its original is still built and trained.
        verified_for: the version of the package for which the manifest records the class as verified.
        subject: a subclass without a forward of its own that is built in its place, as `module:Class`.
    """

    model: str
    class_name: str
    source_module: str
    module: str | None = None
    method: str = "forward"
    head: str | None = None
    chain: Chain = ()
    emitted: bool = True
    verified_for: str | None = None
    subject: str = ""

    @property
    def id(self) -> str:
        return f"{self.model}.{self.class_name}"

    @property
    def name(self) -> str:
        """The method as the runtime names it."""
        return f"{self.source_module}.{self.class_name}.{self.method}"

    @property
    def built(self) -> tuple[str, str]:
        """The module and the name of the class that is built."""
        module, _, name = self.subject.partition(":")
        return (module, name) if name else (self.source_module, self.class_name)


def read_manifest(generated: Path) -> dict[str, Any]:
    """The manifest of a generated tree. Raises `TargetError` if the folder has none, or what it has is none."""
    place = generated / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TargetError(f"{generated} has no {MANIFEST}. Write it with 'fusegen emit --out {generated}'.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(place, error) from error
    return manifest


def read_targets(generated: Path, patterns: tuple[str, ...] = ()) -> tuple[Target, ...]:
    """Every class of a generated tree, or those whose model, name or id is like one of the patterns.

    Raises:
        TargetError: the folder has no manifest or a broken one, is of another layout than that of classes, or holds
            nothing that is like one of the patterns.
    """
    manifest = read_manifest(generated)
    try:
        layout = manifest.get("layout", "class")
        unique = {target.id: target for target in reversed([*_emitted(manifest), *_left_out(manifest)])}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _broken(generated / MANIFEST, error) from error
    if layout != "class":
        raise TargetError(f"{generated} is of --layout {layout}, and only what can be installed is verified.")
    known = tuple(sorted(unique.values(), key=lambda target: target.id))
    for pattern in patterns:
        if not any(_is_like(target, pattern) for target in known):
            names = {name for target in known for name in _names(target)}
            raise TargetError(f"{generated} holds no model or class {pattern!r}.{close_names(pattern, sorted(names))}")
    return tuple(each for each in known if not patterns or any(_is_like(each, pattern) for pattern in patterns))


def module_path(generated: Path, target: Target) -> Path:
    """The file of the generated module of an emitted class."""
    return generated / f"{(target.module or '').replace('.', '/')}.py"


def _broken(place: Path, error: Exception) -> TargetError:
    said = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    return TargetError(
        f"{place} is no manifest of fusegen ({said}). Remove the folder and write it again with "
        f"'fusegen emit --out {place.parent}'."
    )


def _names(target: Target) -> tuple[str, str, str]:
    return target.model, target.class_name, target.id


def _is_like(target: Target, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in _names(target))


def _emitted(manifest: Mapping[str, Any]) -> Iterator[Target]:
    package = manifest["source"]["package"]
    for entry in manifest["classes"]:
        yield Target(
            model=entry["model"],
            class_name=entry["class"],
            source_module=_dotted(package, entry["file"]),
            module=entry.get("module"),
            method=entry["method"],
            head=entry.get("head"),
            chain=tuple(entry.get("chain", ())),
            verified_for=entry.get(FIELD, {}).get("version"),
        )


def _left_out(manifest: Mapping[str, Any]) -> Iterator[Target]:
    package = manifest["source"]["package"]
    spec = find_spec(package)
    root = Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else Path()
    for entry in manifest["not_emitted"]:
        model, class_name, method = entry["site"].rsplit(".", 2)
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
