"""docs/verified.md is what `make verify-versions` would write: its parts on small reports, and its newest counts."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

from fusegen.verify.records import DIFFERENT, FAILED, NOT_BUILT, NOT_EMITTED, VERIFIED, ClassResult, VerifyReport
from fusegen.verify.rendering import render

ROOT = Path(__file__).parents[2]

OLDER = VerifyReport(
    "5.98.0",
    ("some ignored", "bf16"),
    (
        ClassResult("gemma.GemmaForCausalLM", DIFFERENT),
        ClassResult("llama.LlamaForCausalLM", VERIFIED),
        ClassResult("opt.OPTForCausalLM", NOT_BUILT, reason="ValueError: a | b (transformers/models/opt.py:12)"),
        ClassResult("phi.PhiForCausalLM", FAILED, reason="took too long. Really so"),
    ),
)
NEWER = VerifyReport(
    "5.99.0",
    ("some ignored", "bf16"),
    (
        ClassResult("bert.BertForMaskedLM", NOT_EMITTED, reason="the original builds and trains"),
        ClassResult("llama.LlamaForCausalLM", VERIFIED),
        ClassResult("opt.OPTForCausalLM", NOT_BUILT, reason="ValueError: a | b (transformers/models/opt.py:345)"),
    ),
)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("verify_versions")


def test_the_table_counts_and_names_what_is_not_verified(script: ModuleType) -> None:
    lines = script.document([script.Release(OLDER, 4), script.Release(NEWER, 2)]).splitlines()
    header = next(line for line in lines if line.startswith("| release |"))
    names = (
        "release | matched | emitted | verified | different | failed | not fused | unproven | not built | "
        "not emitted | trained"
    )
    assert header == f"| {names} |"
    assert "| 5.98.0 | 4 | 4 | 1 | 1 | 1 | 0 | 0 | 1 | 0 | 50.0 % |" in lines
    assert "| 5.99.0 | 3 | 2 | 1 | 0 | 0 | 0 | 0 | 1 | 1 | 66.7 % |" in lines
    assert lines[lines.index("| class | releases | reason |") + 2 :] == [
        "| `gemma.GemmaForCausalLM` | 5.98.0 | different |",
        "| `opt.OPTForCausalLM` | 5.98.0, 5.99.0 | ValueError: a \\| b |",
        "| `phi.PhiForCausalLM` | 5.98.0 | took too long. |",
    ]


def test_a_report_is_read_as_verify_writes_it(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "verified.json").write_text(render(OLDER, "json"))
    assert script.read_report(tmp_path / "verified.json") == OLDER


def test_the_installed_release_needs_no_environment(script: ModuleType) -> None:
    pytest.importorskip("transformers")
    assert script.environment(version("transformers"), []) == Path(sys.executable).parent


def test_the_target_hands_on_what_it_was_given() -> None:
    given = ["VERSIONS=5.98.0 5.99.0", "CHECKS=all", "PIP_ARGS=--index-url https://index.example"]
    command = ["make", "-n", "--no-print-directory", "verify-versions", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    words = shlex.split(done.stdout.splitlines()[-1])
    assert words[1:] == [
        "benchmarks/verify_versions.py",
        "--checks",
        "all",
        "--pip-args=--index-url https://index.example",
        "5.98.0",
        "5.99.0",
    ]


def test_the_documented_counts_are_those_of_the_generated_tree() -> None:
    manifest = json.loads((ROOT / "generated" / "manifest.json").read_text(encoding="utf-8"))
    classes = {(entry["model"], entry["class"]) for entry in manifest["classes"]}
    lines = (ROOT / "docs" / "verified.md").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"| {manifest['source']['version']} |"))
    verified = {(entry["model"], entry["class"]) for entry in manifest["classes"] if "verified" in entry}
    assert line.split(" | ")[2:4] == [str(len(classes)), str(len(verified))]
