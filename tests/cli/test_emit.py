"""`fusegen emit` as a user meets it: what it prints, what it writes, how it exits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Run = Callable[..., Result]


def test_writes_the_generated_package_and_says_how_much(fusegen: Run, tree: Path, work: Path) -> None:
    result = fusegen("emit", "--source", tree)
    assert result.exit_code == 0
    assert "2 forwards of 2 models generated in generated" in result.output
    assert (work / "generated/llama/modeling_llama.py").is_file()
    assert (work / "generated/manifest.json").is_file()


def test_check_is_quiet_when_nothing_would_change(fusegen: Run, tree: Path, work: Path) -> None:
    fusegen("emit", "--source", tree)
    result = fusegen("emit", "--source", tree, "--check")
    assert result.exit_code == 0
    assert "checked in generated" in result.output


def test_check_names_what_would_change_and_writes_nothing(fusegen: Run, tree: Path, work: Path) -> None:
    fusegen("emit", "--source", tree)
    modeling = tree / "models/llama/modeling_llama.py"
    modeling.write_text(modeling.read_text().replace("input_ids=input_ids", "input_ids"))
    before = (work / "generated/llama/modeling_llama.py").read_text()
    result = fusegen("emit", "--source", tree, "--check")
    assert result.exit_code == 1
    assert "would change: generated/llama/modeling_llama.py" in result.stderr
    assert (work / "generated/llama/modeling_llama.py").read_text() == before


def test_an_edited_file_is_an_error_that_names_it(fusegen: Run, tree: Path, work: Path) -> None:
    fusegen("emit", "--source", tree)
    (work / "generated/llama/modeling_llama.py").write_text("# mine\n")
    result = fusegen("emit", "--source", tree)
    assert result.exit_code == 2
    assert "generated/llama/modeling_llama.py: was edited since fusegen wrote it" in result.stderr


def test_one_model_only(fusegen: Run, tree: Path, work: Path) -> None:
    assert fusegen("emit", "--source", tree, "--model", "gem*", "--out", "some").exit_code == 0
    assert sorted(path.name for path in (work / "some").iterdir()) == [
        "__init__.py",
        "gemma",
        "manifest.json",
        "report.html",
    ]


def test_an_unknown_model_is_an_error(fusegen: Run, tree: Path, work: Path) -> None:
    result = fusegen("emit", "--source", tree, "--model", "lama")
    assert result.exit_code == 2
    assert "Did you mean llama" in result.stderr
    assert not (work / "generated").exists()
