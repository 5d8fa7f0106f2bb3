"""`fusegen verify` as a user meets it: what it says, how it exits, what it records."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fusegen.cli import cli
from fusegen.verify.recipes import Recipe


def verify(*arguments: object) -> Result:
    """The command, run in this process, which has imported torch already: a class has a process of its own anyway."""
    return CliRunner().invoke(cli, ["verify", *map(str, arguments)])


def entries(tree: Path) -> dict[str, dict]:
    return {entry["class"]: entry for entry in json.loads((tree / "manifest.json").read_text())["classes"]}


def edit(tree: Path, change: Callable[[dict], None], **source: str) -> None:
    """Changes every entry of the manifest, and what it says of the source."""
    manifest = json.loads((tree / "manifest.json").read_text())
    manifest["source"] |= source
    for entry in manifest["classes"]:
        change(entry)
    (tree / "manifest.json").write_text(json.dumps(manifest))


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


@pytest.fixture
def emit(tmp_path: Path, generated: Path) -> Callable[..., Result]:
    """`emit()` runs the command on a tree of two classes in `tmp_path / "emitted"`; it takes further options."""
    command = ["emit", "--quiet", "--select", "OPTForCausalLM,BertForMaskedLM", "--out", str(tmp_path / "emitted")]
    return lambda *options: CliRunner().invoke(cli, [*command, *options])


def test_a_tree_with_verdicts_is_what_emit_would_write_and_shows_their_numbers(emit, tmp_path: Path) -> None:
    tree = tmp_path / "emitted"
    assert emit().exit_code == 0
    assert verify("--generated", tree, "--record").exit_code == 0
    assert emit("--check").exit_code == 0
    bert = entries(tree)["BertForMaskedLM"]["verified"]
    assert 1e-5 < bert["errors"]["bf16"] < 0.01
    assert set(bert["errors"]) < set(bert["checks"])
    report = (tree / "report.html").read_text(encoding="utf-8")
    assert "<td>10 same, 1 raising alike</td>" in report
    assert f"<td>{bert['errors']['bf16']:.0e}</td>" in report


def test_a_report_that_was_edited_is_not_overwritten(emit, tmp_path: Path) -> None:
    tree = tmp_path / "emitted"
    emit()
    with (tree / "report.html").open("a") as report:
        report.write("<p>mine</p>")
    done = verify("opt", "--generated", tree, "--record")
    assert done.exit_code == 2
    assert f"{tree / 'report.html'}: was edited since fusegen wrote it" in done.stderr
    assert "verified" not in entries(tree)["OPTForCausalLM"]


def test_a_wrong_forward_is_shown_with_numbers_and_lines_and_loses_its_verdict(tree: Path) -> None:
    edit(tree, lambda entry: entry.update(verified={"version": "0", "checks": {}}))
    done = verify("GPT2LMHeadModel", "phi.PhiForCausalLM", "--generated", tree, "--record")
    assert done.exit_code == 1
    assert "2 classes: 1 different, 1 not fused" in done.stdout
    assert "some ignored: different" in done.stdout
    assert "original  " in done.stdout
    assert "2 * hidden_states," in done.stdout
    assert "the forward did not ask whether to fuse" in done.stdout
    lost = {name for name, entry in entries(tree).items() if "verified" not in entry}
    assert lost == {"GPT2LMHeadModel", "PhiForCausalLM"}


def test_a_fused_branch_that_never_runs_is_a_failure(tree: Path) -> None:
    done = verify("phi", "--generated", tree)
    assert done.exit_code == 1
    assert "1 class: 1 not fused" in done.stdout


@pytest.mark.parametrize(("recorded", "status"), [(True, 1), (False, 0)])
def test_what_cannot_be_built_any_more_is_a_failure(
    recorded: bool, status: int, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusegen.verify.tiny_models.recipe", lambda *names: Recipe(skip="a library is missing"))
    if recorded:
        edit(tree, lambda entry: entry.update(verified={"version": version("transformers"), "checks": {}}))
    done = verify("opt", "--generated", tree)
    assert done.exit_code == status
    assert "a library is missing" in done.stdout
    assert ("recorded as verified, and cannot be built now" in done.stdout) == recorded


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (
            "5.17.0",
            "written from 5.17.0, {installed} is installed: run 'fusegen emit --force --out {tree}', or install",
        ),
        ("{installed}", "written from another text of models/opt/modeling_opt.py than the installed one: run"),
    ],
)
def test_a_tree_of_another_source_is_said_to_be_stale_and_not_different(release: str, said: str, tree: Path) -> None:
    installed = version("transformers")
    older = {"sha256": "0" * 64, "verified": {"version": "5.17.0", "checks": {}}}
    edit(tree, lambda entry: entry.update(older), version=release.format(installed=installed))
    done = verify("opt", "--generated", tree, "--record")
    assert done.exit_code == 1
    assert "1 class: 1 stale" in done.stdout
    assert said.format(installed=installed, tree=tree) in done.stdout
    assert "fusible(" not in done.stdout
    assert entries(tree)["OPTForCausalLM"]["verified"] == older["verified"]


@pytest.mark.parametrize("broken", [lambda path: path.write_text("def ("), Path.unlink], ids=["edited", "missing"])
def test_a_generated_module_that_cannot_be_imported_is_named(broken: Callable[[Path], object], tree: Path) -> None:
    module = tree / "opt" / "modeling_opt.py"
    broken(module)
    done = verify("opt", "--generated", tree)
    assert done.exit_code == 1
    assert f"{module}: the generated module cannot be imported: " in done.stdout


def test_several_models_may_be_separated_by_commas(tree: Path) -> None:
    done = verify("opt,OPT*", "--generated", tree)
    assert done.exit_code == 0
    assert "1 class: 1 verified" in done.stdout


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"source": {"package": "transformers"}, "classes": [{}]}'])
def test_a_broken_manifest_is_named(text: str, tree: Path) -> None:
    (tree / "manifest.json").write_text(text)
    done = verify("opt", "--generated", tree)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"Error: {tree / 'manifest.json'} is no manifest of fusegen (")
    assert f"write it again with 'fusegen emit --out {tree}'" in done.stderr


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
        (["lama"], "generated holds no model or class 'lama'. Did you mean llama or "),
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
