"""A generated tree as the runtime sees it: its manifest, and where its modules are.

    generated/manifest.json                    which classes, from which files, with which hashes
    generated/llama/modeling_llama.py          class LlamaForCausalLM(_source.LlamaForCausalLM)

The original that a method replaces is named by its file, relative to the package that it belongs to.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import FunctionType
from typing import Any

from fusegen.contract.package import SHIPPED_TREE
from fusegen.kernels import INTERFACE_VERSION
from fusegen.runtime.generated_text import generated_function, text_of
from fusegen.runtime.outcomes import GIVEN, SHIPPED

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class PatchedMethod:
    """One method of the manifest and the original that it replaces.

    `module` is the generated module inside the tree, `file` the original's path inside its package,
    `source_module` the dotted name under which the original is imported, `verified_for` the version of the
    package for which `fusegen verify --record` has found the two equal.
    """

    class_name: str
    method: str
    file: str
    sha256: str
    module: str
    source_module: str
    verified_for: str | None = None

    @property
    def name(self) -> str:
        return f"{self.source_module}.{self.class_name}.{self.method}"


@dataclass(frozen=True, slots=True)
class GeneratedTree:
    """An importable package of generated modules (`package`), and the package that it patches (`source`).

    `asked` is what `read_tree` was given.
    """

    package: str
    source: str
    version: str | None
    methods: tuple[PatchedMethod, ...]
    tier: str
    asked: str | Path | None = None

    def function(self, method: PatchedMethod) -> FunctionType:
        """The generated function of a method. Raises what is wrong with its text."""
        name = f"{self.package}.{method.module}"
        text, file = text_of(name)
        return generated_function(text, file, name, method.source_module, method.class_name, method.method)


def read_tree(generated: str | Path | None = None) -> GeneratedTree:
    """The tree of a directory or of an importable package (by its name); None: the one that ships with fusegen.

    Raises:
        ModuleNotFoundError: no such package.
        FileNotFoundError: no such folder, or it has no manifest.json.
        TypeError: neither a folder nor a name.
        ValueError: the manifest is of another schema, or of a tree that cannot be installed here.
    """
    named = generated or SHIPPED_TREE
    if not isinstance(named, str | Path):
        raise TypeError(f"target: expected a model, a folder or the name of a package, got {named!r}")
    is_folder = isinstance(named, Path) or not _is_dotted_name(named) or (Path(named) / "manifest.json").is_file()
    folder = Path(named) if is_folder else installed_folder(str(named))
    if not (folder / "manifest.json").is_file():
        raise FileNotFoundError(f"{folder} has no manifest.json. Write it with 'fusegen emit --out {folder}'.")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    schema = manifest.get("schema_version")
    if schema != SCHEMA_VERSION:
        raise ValueError(f"{folder}: expected a manifest of schema {SCHEMA_VERSION}, got {schema}")
    _assert_usable(folder, manifest)
    source = manifest["source"]
    return GeneratedTree(
        package=_import_directory(folder) if is_folder else str(named),
        source=source["package"],
        version=source.get("version"),
        methods=tuple(_method(entry, source["package"]) for entry in manifest["classes"]),
        tier=GIVEN if generated else SHIPPED,
        asked=generated,
    )


def installed_hashes(tree: GeneratedTree) -> dict[str, str | None]:
    """The sha256 of each original file as it is installed, by its path in the manifest; None where there is none."""
    root = installed_folder(tree.source)
    files = {method.file for method in tree.methods}
    return {file: _sha256(root / file) for file in files}


def _assert_usable(folder: Path, manifest: dict[str, Any]) -> None:
    layout = manifest.get("layout", "class")
    if layout != "class":
        raise ValueError(
            f"{folder}: --layout {layout} is not for installing. Run `fusegen emit --force` with --layout class."
        )
    interface = manifest.get("tool", {}).get("kernel_interface", INTERFACE_VERSION)
    if interface != INTERFACE_VERSION:
        raise ValueError(
            f"{folder}: generated for version {interface} of the kernel interface, and this fusegen has "
            f"{INTERFACE_VERSION}. Run `fusegen emit` again."
        )


def _is_dotted_name(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _method(entry: dict[str, Any], package: str) -> PatchedMethod:
    return PatchedMethod(
        class_name=entry["class"],
        method=entry["method"],
        file=entry["file"],
        sha256=entry["sha256"],
        module=entry["module"],
        source_module=f"{package}.{entry['file'].removesuffix('.py').replace('/', '.')}",
        verified_for=(entry.get("verified") or {}).get("version"),
    )


def _sha256(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def installed_folder(package: str) -> Path:
    """The directory of a package, which is not imported unless it is inside another one.

    Raises:
        ModuleNotFoundError: no such package.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no package named {package!r}: install it first", name=package)
    return Path(next(iter(spec.submodule_search_locations)))


def installed_version(package: str) -> str | None:
    """The version of a package: its own word if it is imported, else its metadata's; None without either."""
    version = getattr(sys.modules.get(package), "__version__", None)
    try:
        return version or importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _import_directory(folder: Path) -> str:
    """Makes a directory importable as a package under a name of its own, and returns that name.

    The manifest has the hash of every file: a tree that was generated again is another package.
    """
    folder = folder.resolve()
    content = str(folder).encode() + (folder / "manifest.json").read_bytes()
    name = f"fusegen_tree_{hashlib.sha256(content).hexdigest()[:12]}"
    if name not in sys.modules:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[name] = module_from_spec(spec)
    return name
