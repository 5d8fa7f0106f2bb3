"""These tests need the runtime extra, and the transformers that the checked-in tree was generated from."""

from __future__ import annotations

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
def broken_tree(generated: Path, tmp_path: Path):
    """`broken_tree("gpt2", text, other)`: a copy of the tree in which one model's text is another one."""

    def copy(model: str, text: str, other: str) -> Path:
        tree = tmp_path / "tree"
        (tree / model).mkdir(parents=True)
        for path in [generated / "manifest.json", *(generated / model).glob("*.py")]:
            target = tree / path.relative_to(generated)
            content = path.read_text(encoding="utf-8")
            assert path.suffix == ".json" or path.name == "__init__.py" or text in content
            target.write_text(content if path.suffix == ".json" else content.replace(text, other) if text else content)
        return tree

    return copy
