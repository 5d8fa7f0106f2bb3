"""The plugin as a downstream project meets it: in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

PLUGIN = "fusegen.verify.pytest_plugin"
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


def run(folder: Path, *options: str) -> str:
    (folder / "test_downstream.py").write_text(TESTS)
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
    assert "gpt2.GPT2LMHeadModel: different" in output
    assert "some ignored: different" in output
    assert "2 * hidden_states," in output
    assert "holds no model or class 'opt.Other'" in output


def test_is_registered_with_pytest_and_explains_its_options(tmp_path: Path) -> None:
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert pyproject["project"]["entry-points"]["pytest11"] == {"fusegen": PLUGIN}
    output = run(tmp_path, "--help")
    assert all(option in output for option in ("--fusegen-parity", "--fusegen-generated", "--fusegen-checks"))
