from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import Result
from referencing import Registry, Resource

Run = Callable[..., Result]

ROOT = Path(__file__).parents[2]
LLAMA = "models/llama/modeling_llama.py"
GEMMA = "models/gemma/modeling_gemma.py"
SARIF = json.loads((ROOT / "tests/report/sarif-2.1.0-reduced.json").read_text(encoding="utf-8"))


@pytest.fixture
def newer(tree: Path, tmp_path: Path) -> Path:
    """The next release of `tree`: Llama edits its logits, Gemma lost its soft cap, Bird is gone and Wren is new."""
    root = tmp_path / "newer" / "transformers"
    shutil.copytree(tree, root)
    text = (root / LLAMA).read_text()
    (root / "models/wren").mkdir()
    (root / "models/wren/modeling_wren.py").write_text(text.replace("Llama", "Wren"))
    (root / LLAMA).write_text(text.replace("loss = None\n", "logits[0] = 0\n        loss = None\n", 1))
    (root / GEMMA).write_text(text.replace("Llama", "Gemma"))
    shutil.rmtree(root / "models/bird")
    (root / "__init__.py").write_text('__version__ = "5.100.0"\n')
    return root


def validated(text: str) -> dict[str, Any]:
    schemas = [
        json.loads((ROOT / f"docs/{name}.json").read_text(encoding="utf-8")) for name in ("json-schema", "diff-schema")
    ]
    registry: Registry[Any] = Registry().with_resources(
        [(schema["$id"], Resource.from_contents(schema)) for schema in schemas]
    )
    document = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schemas[1])
    jsonschema.Draft202012Validator(schemas[1], registry=registry).validate(document)
    assert isinstance(document, dict)
    return document


def test_a_person_reads_what_breaks_first(fusegen: Run, tree: Path, newer: Path) -> None:
    result = fusegen("diff", tree, newer)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.startswith("transformers 5.99.0 -> 5.100.0: 2 of 3 sites matched, now 2 of 4\n")
    order = ["No longer matched (1)", "Changed chain of operations (1)", "Added (1)"]
    assert [line for line in result.stdout.splitlines() if line in order] == order
    assert "1 model added: wren" in result.stdout
    assert "1 model removed: bird" in result.stdout
    assert "operation       - soft_cap(cap=self.config.cap)" in result.stdout


def test_json_keeps_its_schema(fusegen: Run, tree: Path, newer: Path) -> None:
    document = validated(fusegen("diff", tree, newer, "--format", "json").stdout)
    assert {kind: number for kind, number in document["summary"].items() if number} == {
        "lost-match": 1,
        "changed-chain": 1,
        "added": 1,
        "unchanged": 1,
    }
    assert document["models"] == {"added": ["wren"], "removed": ["bird"]}
    lost = document["changes"][0]
    assert (lost["kind"], lost["old"]["verdict"], lost["new"]["code"]) == ("lost-match", "match", "FG203")
    validated(fusegen("diff", tree, tree, "--format", "json").stdout)


def test_markdown_folds_what_does_not_break(fusegen: Run, tree: Path, newer: Path) -> None:
    text = fusegen("diff", tree, newer, "--format", "markdown").stdout
    assert text.startswith("### fusegen: transformers 5.99.0 -> 5.100.0\n")
    assert "| lost-match | 1 | 1 |" in text
    assert "#### No longer matched (1)" in text
    assert "<details><summary>Added (1)</summary>" in text
    assert text.count("```diff") == 2
    assert text.count("<details>") == text.count("</details>")


def test_annotations_and_sarif_hold_the_regressions(
    fusegen: Run, work: Path, tree: Path, newer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(newer.parents[1])
    lines = fusegen("diff", tree, newer, "--format", "github").stdout.splitlines()
    assert [line.split(",title=")[0] for line in lines] == [
        "::error file=newer/transformers/models/llama/modeling_llama.py,line=15",
        "::warning file=newer/transformers/models/gemma/modeling_gemma.py,line=17",
    ]
    document = json.loads(fusegen("diff", tree, newer, "--format", "sarif").stdout)
    jsonschema.validate(document, SARIF)
    results = document["runs"][0]["results"]
    assert [(each["ruleId"], each["level"]) for each in results] == [
        ("lost-match", "error"),
        ("changed-chain", "warning"),
    ]
    assert [rule["id"] for rule in document["runs"][0]["tool"]["driver"]["rules"]] == ["lost-match", "changed-chain"]


@pytest.mark.parametrize(
    ("kinds", "status"),
    [("lost-match", 1), ("changed-signature", 0), ("newly-matched,added", 1), ("any", 1), ("removed", 0)],
)
def test_the_status_is_1_for_the_kinds_that_are_named(
    fusegen: Run, tree: Path, newer: Path, kinds: str, status: int
) -> None:
    assert fusegen("diff", tree, newer, "--fail-on", kinds).exit_code == status
    assert fusegen("diff", tree, tree, "--fail-on", "any").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "nowhere"], "there is no source 'nowhere'"),
        (["TREE", "TREE", "--fail-on", "lost"], "'lost' is no kind of change. The kinds are lost-match, "),
        (["TREE", "TREE", "--model", "lama"], "there is no model 'lama' in either tree. Did you mean llama?"),
        (["TREE", "LIST"], "list.json is no report of fusegen (it is no object of JSON)"),
        (["TREE"], "Missing argument"),
        (["TREE", "TREE", "--generated"], "holds no generated tree"),
        (["TREE", "TREE", "--generated", "--format", "sarif"], "with --generated it is one of text, json, markdown"),
    ],
)
def test_wrong_usage_is_status_2(fusegen: Run, tree: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    given = {"TREE": tree, "LIST": tmp_path / "list.json"}
    given["LIST"].write_text("[]")
    result = fusegen("diff", *(given.get(each, each) for each in arguments))
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_side_of_which_nothing_can_be_read_is_status_2(fusegen: Run, tree: Path, newer: Path) -> None:
    for path in newer.rglob("modeling_*.py"):
        path.write_bytes(b"# labels \xff\n")
    result = fusegen("diff", tree, newer, "--fail-on", "any")
    assert (result.exit_code, "no file could be read" in result.stderr) == (2, True)


@pytest.fixture
def unread(tree: Path, tmp_path: Path) -> Path:
    """`tree` with an error of syntax in the forward of Gemma."""
    root = tmp_path / "unread" / "transformers"
    shutil.copytree(tree, root)
    (root / GEMMA).write_text((root / GEMMA).read_text().replace("torch.tanh(logits)", "torch.tanh(logits"))
    return root


@pytest.mark.parametrize("turned", [False, True])
def test_a_site_that_cannot_be_read_is_named_and_fails(fusegen: Run, tree: Path, unread: Path, turned: bool) -> None:
    sides = (unread, tree) if turned else (tree, unread)
    for kinds, status in (("not-compared", 1), ("any", 1), ("lost-match,changed-chain,added,removed", 0)):
        assert fusegen("diff", *sides, "--fail-on", kinds).exit_code == status
    why = f"{GEMMA} could not be read in the {'old' if turned else 'new'} tree"
    for format_name in ("text", "markdown"):
        shown = fusegen("diff", *sides, "--format", format_name).stdout
        assert "gemma.GemmaForCausalLM" in shown
        assert why in shown.replace("\\_", "_")
    document = validated(fusegen("diff", *sides, "--format", "json").stdout)
    assert (document["summary"]["not-compared"], document["not_compared"]) == (1, ["gemma.GemmaForCausalLM.forward"])
    assert [change["why"] for change in document["changes"]] == [why]


@pytest.mark.parametrize("turned", [False, True])
def test_what_is_missing_from_a_cut_sdist_is_not_compared(
    fusegen: Run, tree: Path, cut_sdist: Path, turned: bool
) -> None:
    sides = (cut_sdist, tree) if turned else (tree, cut_sdist)
    document = validated(fusegen("diff", *sides, "--format", "json").stdout)
    assert {kind: number for kind, number in document["summary"].items() if number} == {
        "not-compared": 2,
        "unchanged": 1,
    }
    assert document["models"] == {"added": [], "removed": []}
    assert fusegen("diff", *sides, "--model", "gemma", "--fail-on", "not-compared").exit_code == 1


def test_a_loop_of_links_is_no_model(fusegen: Run, tree: Path, newer: Path) -> None:
    (newer / "models/loop").symlink_to("loop")
    result = fusegen("diff", tree, newer)
    assert "1 model added: wren\n" in result.stdout
    assert "models/loop:0  (in the new tree) the link cannot be followed" in result.stdout
    assert "no model 'loop' in either tree" in fusegen("diff", tree, newer, "--model", "loop").stderr


def test_models_can_be_chosen_on_either_side(fusegen: Run, tree: Path, newer: Path) -> None:
    document = json.loads(fusegen("diff", tree, newer, "--model", "wren,gem*", "--format", "json").stdout)
    assert [change["id"].split(".")[0] for change in document["changes"]] == ["gemma", "wren"]


def test_saved_reports_stand_for_their_trees(fusegen: Run, work: Path, tree: Path, newer: Path) -> None:
    for name, root in (("old.json", tree), ("new.json", newer)):
        assert fusegen("scan", "--source", root, "--format", "json", "-o", name, "-q").exit_code == 0
    assert fusegen("diff", "old.json", "new.json").stdout == fusegen("diff", tree, newer).stdout
    assert fusegen("diff", "old.json", newer).stdout == fusegen("diff", tree, newer).stdout
    fusegen("scan", "--source", tree, "--format", "json", "-o", "part.json", "--model", "llama")
    assert fusegen("diff", "part.json", newer).exit_code == 2


def test_settings_of_scan_leave_it_alone(fusegen: Run, work: Path, tree: Path, newer: Path) -> None:
    (work / "pyproject.toml").write_text('[tool.fusegen]\nfail-on = ["reject"]\nformat = "sarif"\n')
    result = fusegen("diff", tree, newer)
    assert (result.exit_code, result.stdout[:12]) == (0, "transformers")


class TestGenerated:
    @pytest.fixture
    def folders(self, fusegen: Run, work: Path, tree: Path, newer: Path) -> None:
        """A/ and B/, generated from both releases; in B a statement of Gemma's forward is another one."""
        (newer / LLAMA).write_text((tree / LLAMA).read_text())
        (newer / GEMMA).write_text((tree / GEMMA).read_text().replace("outputs = self", "outputs  = self"))
        for folder, root in (("A", tree), ("B", newer)):
            assert fusegen("emit", "--source", root, "--out", folder).exit_code == 0

    def test_what_is_unchanged_is_left_out(self, fusegen: Run, folders: None) -> None:
        result = fusegen("diff", "--generated", "A", "B")
        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        assert lines[0] == "--- A/gemma/modeling_gemma.py gemma.GemmaForCausalLM.forward"
        changed = [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]
        assert [line.split("=")[0] for line in changed] == ["-        outputs ", "+        outputs  "]
        assert "added: wren/modeling_wren.py wren.WrenForCausalLM.forward" in lines
        assert lines[-1] == "1 changed, 1 added, 0 removed, 1 unchanged"

    def test_other_formats_and_statuses(self, fusegen: Run, folders: None) -> None:
        document = json.loads(fusegen("diff", "--generated", "A", "B", "--format", "json").stdout)
        assert [change["kind"] for change in document["changes"]] == ["changed", "added"]
        assert (
            "<code>gemma.GemmaForCausalLM.forward</code>"
            in fusegen("diff", "--generated", "A", "B", "--format", "markdown").stdout
        )
        assert fusegen("diff", "--generated", "A", "B", "--fail-on", "changed").exit_code == 1
        assert fusegen("diff", "--generated", "A", "B", "--fail-on", "removed").exit_code == 0
        assert fusegen("diff", "--generated", "A", "A", "--fail-on", "any").exit_code == 0
        assert fusegen("diff", "--generated", "A", "B", "--model", "llama", "--fail-on", "any").exit_code == 0

    def test_a_damaged_folder_says_so(self, fusegen: Run, folders: None, work: Path) -> None:
        (work / "B/gemma/modeling_gemma.py").write_text("class Nothing: ...\n")
        result = fusegen("diff", "--generated", "A", "B")
        assert (result.exit_code, "does not hold what manifest.json says" in result.stderr) == (2, True)
