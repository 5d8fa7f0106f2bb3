"""What generated code calls and what the runtime offers are one interface with one number."""

from __future__ import annotations

import ast
import inspect
import json
import shutil
from pathlib import Path

import pytest

import fusegen.generated
import fusegen.runtime
from fusegen.codegen.manifest import KERNEL_INTERFACE
from fusegen.kernels import INTERFACE_VERSION
from fusegen.runtime import install

GENERATED = Path(fusegen.generated.__file__).parent
MANIFEST = json.loads((GENERATED / "manifest.json").read_text(encoding="utf-8"))


def test_both_halves_speak_of_the_same_interface() -> None:
    assert KERNEL_INTERFACE == INTERFACE_VERSION == MANIFEST["tool"]["kernel_interface"]


def test_every_call_in_the_generated_tree_fits_what_the_runtime_offers() -> None:
    calls = 0
    for module in {entry["module"] for entry in MANIFEST["classes"]}:
        tree = ast.parse((GENERATED / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        (imported,) = (node for node in tree.body if getattr(node, "module", "") == "fusegen.runtime")
        names = {alias.name for alias in imported.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
                inspect.signature(getattr(fusegen.runtime, node.func.id)).bind(*node.args, **keywords)
                calls += 1
    assert calls > len(MANIFEST["classes"])


def test_a_tree_for_another_interface_is_refused(tmp_path: Path) -> None:
    (tmp_path / "llama").mkdir()
    shutil.copy(GENERATED / "llama/modeling_llama.py", tmp_path / "llama")
    other = MANIFEST | {"tool": MANIFEST["tool"] | {"kernel_interface": INTERFACE_VERSION + 1}}
    (tmp_path / "manifest.json").write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(ValueError, match=r"version 2 of the kernel interface, .* has 1\. Run `fusegen emit` again"):
        install(tmp_path)
