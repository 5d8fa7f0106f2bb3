"""The plugin as a downstream project meets it: in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

PLUGIN = "fusegen.verify.pytest_plugin"
MODELS = """\
from torch import nn
from transformers import BertModel, OPTForCausalLM

class Inherits(OPTForCausalLM):
    more = 1

class Outer:
    class Inner(Inherits):
        pass

class Watches(OPTForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        self.lm_head.register_forward_hook(lambda module, inputs, output: output)

class Overrides(OPTForCausalLM):
    def forward(self, **inputs):
        return super().forward(**inputs)

class Headless(BertModel):
    pass
"""
SUBCLASSES = """\
import pytest
import models_of_mine
from models_of_mine import Headless, Inherits, Outer, Overrides, Watches

@pytest.mark.parametrize("model", [Inherits, Outer.Inner, Watches, Overrides, Headless])
def test_parity(model, fused_parity):
    fused_parity(model)

def test_local(fused_parity):
    class Local(Inherits):
        pass
    fused_parity(Local)
"""
TESTS = """\
import sys
import pytest

def test_nothing_heavy_was_imported():
    assert "torch" not in sys.modules
    assert "transformers" not in sys.modules

@pytest.mark.parametrize(("model", "name"), [("opt", "OPTForCausalLM"), ("gpt2", "GPT2LMHeadModel"), ("opt", "Other")])
def test_parity(model, name, fused_parity):
    fused_parity(type(name, (), {"__module__": f"transformers.models.{model}.modeling_{model}"}))
"""


def run(folder: Path, *options: str, tests: str = TESTS) -> str:
    (folder / "test_downstream.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-rs", *options]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


def test_costs_nothing_unless_it_is_asked_for(tmp_path: Path) -> None:
    output = run(tmp_path)
    assert "1 passed, 3 skipped" in output
    assert "needs --fusegen-parity" in output


def test_passes_for_a_right_class_and_fails_with_the_numbers_for_a_wrong_one(tmp_path: Path, tree: Path) -> None:
    output = run(tmp_path, "--fusegen-parity", f"--fusegen-generated={tree}")
    assert "2 failed, 2 passed" in output
    assert "transformers.models.gpt2.modeling_gpt2.GPT2LMHeadModel: different" in output
    assert "some ignored: different" in output
    assert "2 * hidden_states," in output
    assert f"{tree} holds no fused forward for transformers.models.opt.modeling_opt.Other" in output


def test_a_class_of_ones_own_is_compared_itself_where_it_inherits_the_forward(tmp_path: Path, tree: Path) -> None:
    (tmp_path / "models_of_mine.py").write_text(MODELS)
    output = run(tmp_path, "--fusegen-parity", f"--fusegen-generated={tree}", tests=SUBCLASSES)
    assert "4 failed, 2 passed" in output
    assert "models_of_mine.Watches: not fused" in output
    assert f"{tree} holds no fused forward for models_of_mine.Overrides. Only classes" in output
    assert "BertModel, whose forward models_of_mine.Headless inherits. Only classes" in output
    assert "test_local.<locals>.Local: define it at the top level of a module" in output


def test_a_folder_without_a_tree_is_named(tmp_path: Path) -> None:
    output = run(tmp_path, "--fusegen-parity", "--fusegen-generated=nope")
    assert "nope has no manifest.json. Write it with 'fusegen emit --out nope'." in output


def test_is_registered_with_pytest_and_explains_its_options(tmp_path: Path) -> None:
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert pyproject["project"]["entry-points"]["pytest11"] == {"fusegen": PLUGIN}
    output = run(tmp_path, "--help")
    assert all(option in output for option in ("--fusegen-parity", "--fusegen-generated", "--fusegen-checks"))
