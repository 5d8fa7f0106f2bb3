"""`fusegen verify` as a user meets it: what it says, how it exits, what it records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

WRONG = ("causal_lm_loss(hidden_states, ", "causal_lm_loss(2 * hidden_states, ")
RUN = "from fusegen.cli import main; main()"


def verify(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_right_tree_is_verified_and_recorded(broken_tree) -> None:
    tree = broken_tree("gpt2", "", "")
    done = verify("GPT2LMHeadModel", "--generated", tree, "--record", "--format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["verified"] == 1
    (result,) = report["classes"]
    checks = {check["check"]: check["outcome"] for check in result["checks"]}
    assert list(checks) == report["checks"]
    assert checks["some ignored"] == checks["bf16"] == checks["num_items tensor"] == "same"
    entries = {entry["class"]: entry for entry in json.loads((tree / "manifest.json").read_text())["classes"]}
    assert entries["GPT2LMHeadModel"]["verified"]["version"] == report["transformers"]
    assert entries["GPT2LMHeadModel"]["verified"]["checks"]["some ignored"] == "same"
    assert not any("verified" in entry for name, entry in entries.items() if name != "GPT2LMHeadModel")


def test_a_wrong_tree_is_shown_with_numbers_and_lines_and_loses_its_verdict(broken_tree) -> None:
    tree = broken_tree("gpt2", *WRONG)
    manifest = json.loads((tree / "manifest.json").read_text())
    for entry in manifest["classes"]:
        entry["verified"] = {"version": "0", "checks": {}}
    (tree / "manifest.json").write_text(json.dumps(manifest))
    done = verify("gpt2.GPT2LMHeadModel", "--generated", tree, "--record")
    assert done.returncode == 1
    assert "1 different" in done.stdout
    assert "some ignored: different" in done.stdout
    assert "original  " in done.stdout
    assert "2 * hidden_states" in done.stdout
    entries = {entry["class"]: entry for entry in json.loads((tree / "manifest.json").read_text())["classes"]}
    assert "verified" not in entries["GPT2LMHeadModel"]
    assert all("verified" in entry for name, entry in entries.items() if name != "GPT2LMHeadModel")


def test_a_branch_that_is_never_taken_proves_nothing(broken_tree) -> None:
    tree = broken_tree("gpt2", "if fusible(", "if labels is None and fusible(")
    done = verify("GPT2LMHeadModel", "--generated", tree)
    assert "0 verified" not in done.stdout
    assert "1 not fused" in done.stdout
    assert "the forward did not ask whether to fuse" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing*"], "holds no model or class 'nothing*'"),
        (["--generated", "tests"], "tests has no manifest.json. Write it with 'fusegen emit --out tests'."),
    ],
)
def test_unusable_input_is_refused_in_one_line(arguments: list[str], message: str, generated: Path) -> None:
    given = arguments if "--generated" in arguments else [*arguments, "--generated", generated]
    command = [sys.executable, "-c", RUN, "verify", *map(str, given)]
    done = subprocess.run(command, cwd=generated.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
