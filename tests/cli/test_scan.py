from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from fusegen.codegen import pipeline
from fusegen.codegen.records import Failure, FileReport

Run = Callable[..., Result]


def ids(result: Result) -> list[str]:
    assert result.exit_code in (0, 1), result.output
    return [line.split()[2] for line in result.stdout.splitlines()]


def test_a_person_gets_a_summary_on_stdout_and_status_0(fusegen: Run, tree: Path) -> None:
    result = fusegen("scan", "--source", tree)
    assert result.exit_code == 0
    assert result.stdout.startswith("transformers 5.99.0: 3 sites in 4 modeling files\n")
    assert "soft_cap" in result.stdout
    assert "modeling_edited.py" in result.stdout
    assert "\x1b" not in result.output


def test_deprecated_models_are_left_out_and_said_to_be(fusegen: Run, tree: Path) -> None:
    assert "Left out: 1 file of deprecated models" in fusegen("scan", "--source", tree).stderr
    assert fusegen("scan", "--source", tree, "-q").stderr == ""


def test_json_is_on_stdout_alone(fusegen: Run, tree: Path) -> None:
    document = json.loads(fusegen("scan", "--source", tree, "--format", "json").stdout)
    sites = {site["id"]: site for site in document["sites"]}
    assert sites["llama.LlamaForCausalLM.forward"]["verdict"] == "match"
    assert sites["llama.LlamaForCausalLM.forward"]["chain"] == []
    assert sites["llama.LlamaForCausalLM.forward"]["head"] == "self.lm_head"
    assert [step["op"] for step in sites["gemma.GemmaForCausalLM.forward"]["chain"]] == ["soft_cap"]
    assert sites["edited.EditedForCausalLM.forward"]["code"].startswith("FG")


def test_the_environment_chooses_the_format_and_the_option_wins(fusegen: Run, tree: Path) -> None:
    environment = {"FUSEGEN_OUTPUT_FORMAT": "json-lines"}
    assert len(fusegen("scan", "--source", tree, env=environment).stdout.splitlines()) == 3
    assert fusegen("scan", "--source", tree, "--format", "full", env=environment).stdout.startswith("transformers")


def test_the_second_run_says_the_same_as_the_first(fusegen: Run, tree: Path) -> None:
    runs = [fusegen("scan", "--source", tree, "--format", "json", *extra) for extra in ([], [], ["--no-cache"])]
    assert len({run.stdout for run in runs}) == 1


def test_a_changed_file_is_read_again(fusegen: Run, tree: Path) -> None:
    assert "gemma" in fusegen("scan", "--source", tree, "--format", "concise").stdout
    (tree / "models/gemma/modeling_gemma.py").write_text("# nothing left\n")
    assert "gemma" not in fusegen("scan", "--source", tree, "--format", "concise").stdout


@pytest.mark.parametrize(
    ("options", "models"),
    [
        (["--select", "match"], ["gemma", "llama"]),
        (["--select", "soft_cap"], ["gemma"]),
        (["--select", "FG2"], ["edited"]),
        (["--select", "fg2,soft_cap"], ["edited", "gemma"]),
        (["--select", "FG2", "--select", "soft_cap"], ["edited", "gemma"]),
        (["--select", "unmatched"], ["edited"]),
        (["--ignore", "reject"], ["gemma", "llama"]),
        (["--select", "match", "--ignore", "soft_cap"], ["llama"]),
        (["--model", "llama"], ["llama"]),
        (["--model", "llama,gem*"], ["gemma", "llama"]),
    ],
)
def test_what_is_shown_can_be_chosen(fusegen: Run, tree: Path, options: list[str], models: list[str]) -> None:
    shown = ids(fusegen("scan", "--source", tree, "--format", "concise", *options))
    assert [each.split(".")[0] for each in shown] == models


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--fail-on", "reject"], 1),
        (["--fail-on", "unmatched"], 1),
        (["--fail-on", "FG2"], 1),
        (["--fail-on", "delegated,soft_cap"], 1),
        (["--fail-on", "delegated"], 0),
        (["--fail-on", "reject", "--ignore", "FG2"], 0),
        (["--fail-on", "reject", "--model", "llama"], 0),
    ],
)
def test_fail_on_decides_between_0_and_1(fusegen: Run, tree: Path, options: list[str], status: int) -> None:
    assert fusegen("scan", "--source", tree, *options).exit_code == status


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--select", "soft_cup"], "Did you mean soft_cap?"),
        (["--fail-on", "FG9"], "'FG9' is no verdict"),
        (["--ignore", "rejected"], "Did you mean reject?"),
        (["--model", "lama"], "Did you mean llama?"),
        (["--source", "nowhere"], "there is no source 'nowhere'"),
        (["--format", "yaml"], "yaml"),
        (["--jobs", "0"], "--jobs"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_wrong_usage_is_status_2_and_says_what_is_wrong(
    fusegen: Run, tree: Path, options: list[str], said: str
) -> None:
    result = fusegen("scan", "--source", tree, *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_the_result_can_go_to_a_file(fusegen: Run, tree: Path, work: Path) -> None:
    result = fusegen("scan", "--source", tree, "--format", "json", "-o", "report.json")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert json.loads((work / "report.json").read_text())["summary"]["sites"] == 3
    assert [path.name for path in work.iterdir()] == ["report.json"]


def test_a_file_that_cannot_be_written_is_status_2(fusegen: Run, tree: Path, work: Path) -> None:
    result = fusegen("scan", "--source", tree, "-o", "missing/report.json")
    assert result.exit_code == 2
    assert "cannot write missing/report.json" in result.stderr
    assert list(work.iterdir()) == []


def test_a_file_that_is_no_python_is_reported_and_the_rest_is_read(fusegen: Run, tree: Path) -> None:
    (tree / "models/llama/modeling_llama.py").write_text(
        "class LlamaForCausalLM:\n    def forward(self, labels):\n        self.loss_function((\n"
    )
    (tree / "models/bird/modeling_bird.py").write_bytes(b"# labels \xff\n")
    result = fusegen("scan", "--source", tree, "--format", "concise", "--model", "llama,bird,gemma")
    assert result.exit_code == 0
    assert "models/bird/modeling_bird.py:1: not Python: byte 0xff is not utf-8" in result.stderr
    assert "models/llama/modeling_llama.py:3: not Python" in result.stderr
    assert ids(result) == ["gemma.GemmaForCausalLM.forward"]


def test_nothing_that_can_be_read_is_status_2(fusegen: Run, write_tree: Callable[..., Path]) -> None:
    root = write_tree({"__init__.py": "", "models/a/modeling_a.py": b"labels loss \xff"})
    result = fusegen("scan", "--source", root)
    assert result.exit_code == 2
    assert "no file could be read" in result.stderr


def test_a_tree_without_modeling_files_is_status_2(fusegen: Run, write_tree: Callable[..., Path]) -> None:
    result = fusegen("scan", "--source", write_tree({"__init__.py": "", "models/a/configuration_a.py": ""}))
    assert result.exit_code == 2
    assert "holds no modeling file" in result.stderr


def test_a_bug_in_fusegen_is_status_2_and_the_rest_is_shown(
    fusegen: Run, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scan(*arguments: object, **options: object) -> object:
        report = real(*arguments, **options)  # type: ignore[arg-type]
        broken = FileReport(
            "models/x/modeling_x.py", failures=(Failure("models/x/modeling_x.py", 3, "KeyError", True),)
        )
        return type(report)(report.package, report.version, (*report.files, broken))

    real = pipeline.scan
    monkeypatch.setattr(pipeline, "scan", scan)
    result = fusegen("scan", "--source", tree, "--fail-on", "reject")
    assert result.exit_code == 2
    assert "models/x/modeling_x.py:3: internal error, please report it: KeyError" in result.stderr
    assert "3 sites" in result.stdout


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colours_follow_the_two_variables(
    fusegen: Run, tree: Path, environment: dict[str, str], coloured: bool
) -> None:
    assert ("\x1b[" in fusegen("scan", "--source", tree, env=environment).stdout) is coloured


def test_machine_formats_and_files_have_no_colours(fusegen: Run, tree: Path, work: Path) -> None:
    environment = {"FORCE_COLOR": "1"}
    assert "\x1b" not in fusegen("scan", "--source", tree, "--format", "json", env=environment).stdout
    fusegen("scan", "--source", tree, "-o", "report.txt", env=environment)
    assert "\x1b" not in (work / "report.txt").read_text()


def test_verbose_lists_what_is_counted(fusegen: Run, tree: Path) -> None:
    assert "BirdForSequenceClassification.forward" not in fusegen("scan", "--source", tree).stdout
    assert "BirdForSequenceClassification.forward" in fusegen("scan", "--source", tree, "-v").stdout


def test_annotations_name_files_from_the_working_directory(
    fusegen: Run, write_tree: Callable[..., Path], work: Path
) -> None:
    write_tree(into=work / "src")
    result = fusegen("scan", "--source", ".", "--format", "github")
    assert result.stdout.startswith("::warning file=src/transformers/models/edited/modeling_edited.py,")


def test_a_page_holds_the_source_of_what_is_shown(fusegen: Run, tree: Path, work: Path) -> None:
    result = fusegen("scan", "--source", tree, "--format", "html", "--select", "reject", "-o", "report.html")
    assert (result.exit_code, result.stdout) == (0, "")
    page = (work / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "logits[:, :, 7] = float('-inf')" in page
    assert "edited.EditedForCausalLM.forward" in page
    assert "GemmaForCausalLM" not in page


def test_a_page_of_a_broken_tree_says_what_is_broken(fusegen: Run, write_tree: Callable[..., Path]) -> None:
    broken = write_tree({"__init__.py": "", "models/odd/modeling_odd.py": b"labels \xff"})
    result = fusegen("scan", "--source", broken, "--format", "html", "--no-cache")
    assert result.exit_code == 2
    assert "No place where a language-model head meets a loss was found in 1 modeling file." in result.stdout
    assert "<code>models/odd/modeling_odd.py:1</code>" in result.stdout
    assert "byte 0xff is not utf-8" in result.stdout


def test_fail_on_not_read(fusegen: Run, tree: Path) -> None:
    assert fusegen("scan", "--source", tree, "--fail-on", "not-read").exit_code == 0
    (tree / "models/bird/modeling_bird.py").write_text("def labels(:\n")
    assert fusegen("scan", "--source", tree).exit_code == 0
    result = fusegen("scan", "--source", tree, "--fail-on", "FG1,not-read", "--select", "match")
    assert result.exit_code == 1
    assert "1 failure to read, which --fail-on names" in result.stderr
