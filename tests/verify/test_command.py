"""`fusegen verify` as a user meets it: what it says, how it exits, what it records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fusegen.cli import cli


def verify(*arguments: object) -> Result:
    """The command, run in this process, which has imported torch already: a class has a process of its own anyway."""
    return CliRunner().invoke(cli, ["verify", *map(str, arguments)])


def entries(tree: Path) -> dict[str, dict]:
    return {entry["class"]: entry for entry in json.loads((tree / "manifest.json").read_text())["classes"]}


def test_a_right_forward_is_verified_and_recorded(tree: Path) -> None:
    done = verify("opt", "--generated", tree, "--record", "--format", "json")
    assert done.exit_code == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["verified"] == 1
    (result,) = report["classes"]
    checks = {check["check"]: check["outcome"] for check in result["checks"]}
    assert list(checks) == report["checks"]
    assert checks["some ignored"] == checks["bf16"] == checks["num_items tensor"] == "same"
    verified = {name: entry["verified"] for name, entry in entries(tree).items() if "verified" in entry}
    assert list(verified) == ["OPTForCausalLM"]
    assert verified["OPTForCausalLM"]["version"] == report["transformers"]
    assert verified["OPTForCausalLM"]["checks"]["some ignored"] == "same"


def test_a_wrong_forward_is_shown_with_numbers_and_lines_and_loses_its_verdict(tree: Path) -> None:
    manifest = json.loads((tree / "manifest.json").read_text())
    for entry in manifest["classes"]:
        entry["verified"] = {"version": "0", "checks": {}}
    (tree / "manifest.json").write_text(json.dumps(manifest))
    done = verify("GPT2LMHeadModel", "phi.PhiForCausalLM", "--generated", tree, "--record")
    assert done.exit_code == 1
    assert "2 classes: 1 different, 1 not fused" in done.stdout
    assert "some ignored: different" in done.stdout
    assert "original  " in done.stdout
    assert "2 * hidden_states," in done.stdout
    assert "the forward did not ask whether to fuse" in done.stdout
    lost = {name for name, entry in entries(tree).items() if "verified" not in entry}
    assert lost == {"GPT2LMHeadModel", "PhiForCausalLM"}


@pytest.mark.parametrize("layout", ["full", "patch"])
def test_what_cannot_be_installed_cannot_be_verified(tree: Path, layout: str) -> None:
    manifest = json.loads((tree / "manifest.json").read_text())
    (tree / "manifest.json").write_text(json.dumps(manifest | {"layout": layout}))
    done = verify("opt", "--generated", tree)
    assert done.exit_code == 2
    assert done.stderr == f"Error: {tree} is of --layout {layout}, and only what can be installed is verified.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing*"], "generated holds no model or class 'nothing*'."),
        (["--generated", "tests"], "tests has no manifest.json. Write it with 'fusegen emit --out tests'."),
        (["--generated", "none"], "none has no manifest.json. Write it with 'fusegen emit --out none'."),
    ],
)
def test_unusable_input_is_refused_in_one_line(
    arguments: list[str], message: str, generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(generated.parent)
    done = verify(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
