"""These tests need the runtime extra, and the transformers that the checked-in tree was generated from."""

from __future__ import annotations

import json
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


@pytest.fixture
def tree(generated: Path, tmp_path: Path) -> Path:
    """A copy of three models of the tree: a right OPT, a GPT-2 that is wrong, a Phi that is never fused."""
    edits = {
        "opt": ("", ""),
        "gpt2": ("\n                hidden_states,\n", "\n                2 * hidden_states,\n"),
        "phi": ("if fusible(", "if labels is None and fusible("),
    }
    copied = tmp_path / "tree"
    for model, (text, other) in edits.items():
        (copied / model).mkdir(parents=True)
        for path in (generated / model).glob("*.py"):
            content = path.read_text(encoding="utf-8")
            assert text in content or not content
            (copied / model / path.name).write_text(content.replace(text, other) if text else content)
    manifest = json.loads((generated / "manifest.json").read_text(encoding="utf-8"))
    for entry in manifest["classes"]:
        entry.pop("verified", None)
    (copied / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return copied
