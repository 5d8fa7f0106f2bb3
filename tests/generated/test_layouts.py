"""Every layout on the transformers that is installed: vendored, patched in place, and installed from anywhere."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from fusegen.codegen.emit import emit
from fusegen.codegen.selection import Selection, Terms
from fusegen.codegen.sources import open_source
from fusegen.codegen.writer import write
from fusegen.runtime import coverage, install, uninstall

TRANSFORMERS = Path(transformers.__file__).parent
VENDORED = Selection(Terms(("llama", "gemma2", "mixtral", "olmo*", "qwen2_vl", "t5", "llava", "granite")))

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def written(out: Path, layout: str, *models: str) -> Path:
    write(out, emit(open_source("installed"), "1.2.3", jobs=1, models=models, layout=layout).files)
    return out


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `mypackage` that can be imported for as long as the test runs."""
    package = tmp_path / "room" / "mypackage"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(package.parent))
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        del sys.modules[name]


def tiny(model_class: type) -> torch.nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    return model_class(config).train()


def trained(model_class: type) -> list[float]:
    """The losses of a few steps from the same start on the same data."""
    model = tiny(model_class)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    input_ids = torch.randint(64, (2, 12), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(4):
        loss = model(input_ids=input_ids, labels=input_ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# -- full --------------------------------------------------------------------------------------------------------


def test_a_vendored_model_trains_like_the_stock_one(importable: Path) -> None:
    written(importable / "fused", "full", "llama")
    vendored = importlib.import_module("mypackage.fused.llama.modeling_llama").LlamaForCausalLM
    assert not issubclass(vendored, LlamaForCausalLM)
    stock = trained(LlamaForCausalLM)
    assert trained(vendored) == pytest.approx(stock, rel=1e-5)
    assert stock[-1] < stock[0]
    assert coverage() == {"mypackage.fused.llama.modeling_llama.LlamaForCausalLM": {"fused": 4}}


@pytest.mark.slow
def test_vendored_files_can_be_imported(importable: Path) -> None:
    emission = emit(open_source("installed"), "1.2.3", jobs=1, layout="full", selection=VENDORED)
    write(importable / "fused", emission.files)
    modules = {entry["module"] for entry in json.loads(emission.files["manifest.json"])["classes"]}
    assert len(modules) > 8
    for module in sorted(modules):
        importlib.import_module(f"mypackage.fused.{module}")


def test_a_whole_file_is_not_for_installing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fused: --layout full is not for installing.*--layout class"):
        install(written(tmp_path / "fused", "full", "llama"))


# -- patch -------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    """Makes a package of links to the installed transformers in which one model folder is a copy."""

    def make(model: Path) -> Path:
        root = tmp_path / "site" / "transformers"
        (root / "models").mkdir(parents=True)
        for folder in (root, root / "models"):
            for entry in (TRANSFORMERS / folder.relative_to(root)).iterdir():
                if entry.name not in ("models", "__pycache__", model.name):
                    (folder / entry.name).symlink_to(entry)
        shutil.copytree(TRANSFORMERS / model, root / model, ignore=shutil.ignore_patterns("__pycache__"))
        return root

    return make


def git_apply(root: Path, patches: list[Path], *options: str) -> None:
    subprocess.run(["git", "apply", *options, *map(str, patches)], cwd=root, check=True)


PATCHED = """
import torch, transformers
from transformers import LlamaConfig, LlamaForCausalLM
from fusegen.runtime import coverage
print(transformers.__file__)
config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4)
ids = torch.arange(12).reshape(2, 6)
LlamaForCausalLM(config).train()(input_ids=ids, labels=ids).loss.backward()
print(coverage())
"""


@needs_git
def test_a_patched_tree_runs_fused_and_can_be_put_back(tmp_path: Path, copy: Callable[[Path], Path]) -> None:
    root = copy(Path("models/llama"))
    patch = written(tmp_path / "patches", "patch", "llama") / "llama/modeling_llama.patch"
    git_apply(root, [patch])
    path = os.pathsep.join([str(root.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    result = subprocess.run(
        [sys.executable, "-c", PATCHED], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == [
        str(root / "__init__.py"),
        "{'transformers.models.llama.modeling_llama.LlamaForCausalLM': {'fused': 1}}",
    ]
    git_apply(root, [patch], "-R")
    original = "models/llama/modeling_llama.py"
    assert (root / original).read_bytes() == (TRANSFORMERS / original).read_bytes()


@needs_git
@pytest.mark.slow
def test_every_patch_applies_compiles_and_can_be_taken_back(tmp_path: Path) -> None:
    emission = emit(open_source("installed"), "1.2.3", layout="patch")
    out, root = tmp_path / "patches", tmp_path / "transformers"
    write(out, emission.files)
    entries = json.loads(emission.files["manifest.json"])["classes"]
    originals = {entry["file"]: (TRANSFORMERS / entry["file"]).read_bytes() for entry in entries}
    for file, content in originals.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content)
    patches = sorted(out.glob("*/*.patch"))
    assert len(patches) == len(originals) > 200
    git_apply(root, patches)
    assert not any((root / file).read_bytes() == content for file, content in originals.items())
    for file in list(originals)[::5]:
        compile((root / file).read_bytes(), file, "exec")
    git_apply(root, patches, "-R")
    assert {file: (root / file).read_bytes() for file in originals} == originals


# -- class -------------------------------------------------------------------------------------------------------


def test_a_tree_inside_a_package_installs_itself(importable: Path) -> None:
    written(importable / "patches", "class", "llama")
    stock = LlamaForCausalLM.forward
    patches = importlib.import_module("mypackage.patches")
    report = patches.install(fuse="training")
    assert report.installed == ("transformers.models.llama.modeling_llama.LlamaForCausalLM.forward",)
    file = importable / "patches/llama/modeling_llama.py"
    assert inspect.getsourcefile(inspect.unwrap(LlamaForCausalLM.forward)) == str(file)
    patches.uninstall()
    assert LlamaForCausalLM.forward is stock


def test_a_tree_in_a_folder_of_any_name_is_installed_by_its_path(tmp_path: Path) -> None:
    out = written(tmp_path / "my patches-2", "class", "llama")
    stock = trained(LlamaForCausalLM)
    assert install(out).installed
    assert trained(LlamaForCausalLM) == pytest.approx(stock, rel=1e-5)
    assert coverage() == {"transformers.models.llama.modeling_llama.LlamaForCausalLM": {"fused": 4}}
    uninstall()
