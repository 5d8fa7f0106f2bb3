"""What `fusegen emit` does not drop without being asked to: what could not be read, and what was not asked for."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from fusegen.codegen.listing import modeling_files_below

Run = Callable[..., Result]
LLAMA = "models/llama/modeling_llama.py"


@pytest.fixture
def generated(fusegen: Run, tree: Path, work: Path) -> Path:
    """A folder with llama and gemma, whose first forward (gemma) is recorded as verified."""
    fusegen("emit", "--source", tree)
    place = work / "generated/manifest.json"
    manifest = json.loads(place.read_text())
    manifest["classes"][0]["verified"] = {"version": "5.99.0", "checks": {"loss": "same"}}
    place.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    fusegen("emit", "--source", tree)
    return work / "generated"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def not_python(file: Path) -> None:
    file.write_text(file.read_text() + "def broken(:\n")


def not_utf8(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"# \xff\n")


def too_deep(file: Path) -> None:
    file.write_text(file.read_text() + "x = " + "(" * 300 + ")" * 300 + "\n")


def link_to_nothing(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere.py")


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def gone(file: Path) -> None:
    file.unlink()


def gone_with_its_folder(file: Path) -> None:
    shutil.rmtree(file.parent)


READABLE_NO_MORE = [not_python, not_utf8, too_deep, link_to_nothing, a_folder, gone, gone_with_its_folder]


@pytest.mark.parametrize("spoil", READABLE_NO_MORE)
@pytest.mark.parametrize("layout", ["class", "full", "patch"])
def test_what_cannot_be_read_is_not_gone(
    fusegen: Run, tree: Path, work: Path, spoil: Callable[[Path], None], layout: str
) -> None:
    command = ("emit", "--source", tree, "--layout", layout)
    fusegen(*command)
    before = contents(work / "generated")
    spoil(tree / LLAMA)
    modeling_files_below.cache_clear()
    result = fusegen(*command)
    assert result.exit_code == 2
    assert "This would drop 1 forward (llama.LlamaForCausalLM)" in result.stderr
    assert "Nothing is written" in result.stderr
    assert fusegen(*command, "--check").exit_code != 0
    assert contents(work / "generated") == before
    forced = fusegen(*command, "--force")
    assert forced.exit_code == 0
    assert "dropped: 1 forward (llama.LlamaForCausalLM)\n" in forced.stdout
    assert not (work / "generated/llama").exists()


def test_a_folder_that_cannot_be_listed_is_said(fusegen: Run, tree: Path, work: Path, generated: Path) -> None:
    before = contents(generated)
    (tree / "models/llama/loop").symlink_to("loop")
    modeling_files_below.cache_clear()
    result = fusegen("emit", "--source", tree)
    assert result.exit_code == 2
    assert "what stands in models/llama/loop is not known, so nothing is written" in result.stderr
    assert contents(generated) == before
    assert fusegen("emit", "--source", tree, "--force").exit_code == 0
    assert (generated / "llama/modeling_llama.py").exists()


@pytest.mark.parametrize("closed", [LLAMA, "models/llama", "models"])
def test_what_must_not_be_read_is_not_gone(fusegen: Run, tree: Path, work: Path, generated: Path, closed: str) -> None:
    before = contents(generated)
    (tree / closed).chmod(0)
    modeling_files_below.cache_clear()
    if os.access(tree / closed, os.R_OK):
        pytest.skip("the superuser may read everything")
    try:
        assert fusegen("emit", "--source", tree).exit_code == 2
        assert fusegen("emit", "--source", tree, "--check").exit_code == 2
    finally:
        (tree / closed).chmod(0o755)
    assert contents(generated) == before


def test_check_is_not_green_where_something_was_not_read(fusegen: Run, tree: Path, work: Path) -> None:
    not_python(tree / "models/edited/modeling_edited.py")
    assert fusegen("emit", "--source", tree).exit_code == 0
    result = fusegen("emit", "--source", tree, "--check")
    assert result.exit_code == 2
    assert "whether generated is what would be written is not known" in result.stderr


def test_a_forward_that_matches_no_more_goes_as_before(fusegen: Run, tree: Path, generated: Path) -> None:
    gemma = tree / "models/gemma/modeling_gemma.py"
    gemma.write_text(gemma.read_text().replace("torch.tanh(logits)", "self.mystery(logits)"))
    result = fusegen("emit", "--source", tree)
    assert result.exit_code == 0
    assert (
        "dropped: 1 forward (gemma.GemmaForCausalLM) and 1 recorded verdict (gemma.GemmaForCausalLM)\n" in result.stdout
    )
    assert not (generated / "gemma").exists()


def test_a_verdict_that_a_change_of_the_source_drops_is_named(fusegen: Run, tree: Path, generated: Path) -> None:
    gemma = tree / "models/gemma/modeling_gemma.py"
    gemma.write_text(gemma.read_text().replace("self.model(input_ids=input_ids)", "self.model(input_ids)"))
    result = fusegen("emit", "--source", tree)
    assert result.exit_code == 0
    assert "dropped: 1 recorded verdict (gemma.GemmaForCausalLM)\n" in result.stdout


NARROWER = [("--model", "llama"), ("--select", "LlamaForCausalLM"), ("--ignore", "soft_cap"), ("--layout", "full")]


@pytest.mark.parametrize("narrower", NARROWER)
def test_more_than_what_is_asked_for_is_replaced_with_force_only(
    fusegen: Run, tree: Path, generated: Path, narrower: tuple[str, str]
) -> None:
    before = contents(generated)
    result = fusegen("emit", "--source", tree, *narrower)
    assert result.exit_code == 2
    assert result.stderr.count("\n") <= 2
    assert "gemma.GemmaForCausalLM" in result.stderr
    assert "1 recorded verdict" in result.stderr
    assert "--force" in result.stderr
    assert contents(generated) == before
    assert fusegen("emit", "--source", tree, *narrower, "--check").exit_code == 1
    shown = fusegen("emit", "--source", tree, *narrower, "--diff")
    assert shown.exit_code == 0
    assert "not without --force: " in shown.stderr
    assert contents(generated) == before
    assert fusegen("emit", "--source", tree, *narrower, "--force").exit_code == 0


def test_a_tree_of_another_version_is_replaced_with_force_only(fusegen: Run, tree: Path, generated: Path) -> None:
    before = contents(generated)
    (tree / "__init__.py").write_text('__version__ = "6.0.0"\n')
    result = fusegen("emit", "--source", tree)
    assert result.exit_code == 2
    assert "it is of transformers 5.99.0, and the source is transformers 6.0.0" in result.stderr
    assert contents(generated) == before
    assert fusegen("emit", "--source", tree, "--force").exit_code == 0
    assert json.loads((generated / "manifest.json").read_text())["source"]["version"] == "6.0.0"


def test_a_wider_selection_replaces_a_narrower_one(fusegen: Run, tree: Path, work: Path) -> None:
    assert fusegen("emit", "--source", tree, "--select", "soft_cap").exit_code == 0
    assert fusegen("emit", "--source", tree).exit_code == 0
    assert (work / "generated/llama").is_dir()


@pytest.mark.parametrize("narrower", [("--select", "soft_cap"), ("--ignore", "llama"), ("--model", "gemma")])
def test_the_same_selection_replaces_as_before(fusegen: Run, tree: Path, work: Path, narrower: tuple[str, str]) -> None:
    fusegen("emit", "--source", tree, *narrower)
    gemma = tree / "models/gemma/modeling_gemma.py"
    gemma.write_text(gemma.read_text().replace("torch.tanh(logits)", "self.mystery(logits)"))
    result = fusegen("emit", "--source", tree, *narrower)
    assert result.exit_code == 0, result.output
    assert "dropped: 1 forward (gemma.GemmaForCausalLM)\n" in result.stdout


def test_what_another_run_wrote_meanwhile_is_not_dropped(
    fusegen: Run, tree: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is looked at when it is written, not when the run begins."""
    from fusegen.cli import guard

    write = guard.write
    fusegen("emit", "--source", tree, "--out", "whole")

    def late(out: Path, *arguments: object) -> object:
        shutil.copytree(work / "whole", work / "generated")
        return write(out, *arguments)

    monkeypatch.setattr(guard, "write", late)
    result = fusegen("emit", "--source", tree, "--select", "soft_cap")
    assert result.exit_code == 2
    assert (work / "generated/llama").is_dir()
