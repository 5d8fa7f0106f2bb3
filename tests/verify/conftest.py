"""These tests need the runtime extra, and the transformers that the checked-in tree was generated from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from fusegen.verify.targets import Target, read_manifest, read_targets

pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

GENERATED = Path(__file__).parents[2] / "generated"


@pytest.fixture(scope="session")
def generated() -> Path:
    """The checked-in tree."""
    import transformers

    version = read_manifest(GENERATED)["source"]["version"]
    if transformers.__version__ != version:
        pytest.skip(f"generated from transformers {version}")
    return GENERATED


@pytest.fixture
def target(generated: Path):
    """`target("LlamaForCausalLM")`: that class in the checked-in tree."""

    def find(name: str) -> Target:
        (found,) = read_targets(generated, (name,))
        return found

    return find


@pytest.fixture(scope="session")
def copy_models(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Collection[str]], Path]:
    """`copy_models({"opt"})`: a tree of these models alone, with no verdict; a small one is installed at once."""

    def copied(models: Collection[str]) -> Path:
        folder = tmp_path_factory.mktemp("generated") / "tree"
        for model in models:
            shutil.copytree(generated / model, folder / model, ignore=shutil.ignore_patterns("__pycache__"))
        manifest = read_manifest(generated)
        manifest["classes"] = [entry for entry in manifest["classes"] if entry["model"] in models]
        for entry in manifest["classes"]:
            entry.pop("verified", None)
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return folder

    return copied


@pytest.fixture
def tree(copy_models: Callable[[Collection[str]], Path]) -> Path:
    """A copy of three models of the tree: a right OPT, a GPT-2 that is wrong, a Phi that is never fused."""
    folder = copy_models({"opt", "gpt2", "phi"})
    edits = {
        "gpt2": ("\n                hidden_states,\n", "\n                2 * hidden_states,\n"),
        "phi": ("if fusible(", "if labels is None and fusible("),
    }
    for model, (text, other) in edits.items():
        path = folder / model / f"modeling_{model}.py"
        content = path.read_text(encoding="utf-8")
        assert text in content
        path.write_text(content.replace(text, other), encoding="utf-8")
    return folder
