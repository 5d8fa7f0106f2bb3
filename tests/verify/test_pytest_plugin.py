"""The plugin as a downstream project meets it: in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

WRONG = ("causal_lm_loss(hidden_states, ", "causal_lm_loss(2 * hidden_states, ")
PLUGIN = "fusegen.verify.pytest_plugin"
TESTS = """\
import sys

def test_nothing_heavy_was_imported():
    assert "torch" not in sys.modules
    assert "transformers" not in sys.modules

def test_parity(fused_parity):
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel
    fused_parity(GPT2LMHeadModel)

def test_unknown(fused_parity):
    class Other: ...
    Other.__module__ = "transformers.models.gpt2.modeling_gpt2"
    fused_parity(Other)
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_downstream.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-rs", *options]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_costs_nothing_unless_it_is_asked_for(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert "1 passed, 2 skipped" in done.stdout
    assert "needs --fusegen-parity" in done.stdout


def test_compares_a_class_and_fails_for_one_that_is_not_in_the_tree(tmp_path: Path, generated: Path) -> None:
    done = run(tmp_path, "--fusegen-parity", f"--fusegen-generated={generated}")
    assert "1 failed, 2 passed" in done.stdout
    assert "holds no model or class 'gpt2.test_unknown.<locals>.Other'" in done.stdout


def test_fails_with_the_numbers_if_the_generated_forward_is_wrong(tmp_path: Path, generated: Path, broken_tree) -> None:
    tree = broken_tree("gpt2", *WRONG)
    done = run(tmp_path, "--fusegen-parity", f"--fusegen-generated={tree}", "-k", "test_parity")
    assert "1 failed" in done.stdout
    assert "some ignored: different" in done.stdout
    assert "2 * hidden_states" in done.stdout


def test_is_registered_with_pytest() -> None:
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert pyproject["project"]["entry-points"]["pytest11"] == {"fusegen": PLUGIN}


@pytest.mark.parametrize("option", ["--fusegen-parity", "--fusegen-generated", "--fusegen-checks"])
def test_the_options_are_explained(option: str, tmp_path: Path) -> None:
    assert option in run(tmp_path, "--help").stdout
