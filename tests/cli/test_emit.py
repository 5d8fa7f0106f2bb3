"""`fusegen emit` as a user meets it: what it prints, what it writes, how it exits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
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
    beside = ["__init__.py", "gemma", "manifest.json", "report.html", "report.json", "report.md"]
    assert sorted(path.name for path in (work / "some").iterdir()) == beside


def test_an_unknown_model_is_an_error(fusegen: Run, tree: Path, work: Path) -> None:
    result = fusegen("emit", "--source", tree, "--model", "lama")
    assert result.exit_code == 2
    assert "Did you mean llama" in result.stderr
    assert not (work / "generated").exists()


def test_what_is_not_emitted_is_counted_and_listed(fusegen: Run, tree: Path) -> None:
    result = fusegen("emit", "--source", tree)
    assert "   1 FG203 entries of the logits are overwritten before the loss\n" in result.output
    assert "edited.EditedForCausalLM" not in result.output
    listed = fusegen("emit", "--source", tree, "-v").output
    assert "models/edited/modeling_edited.py:15:9 entries of the logits are overwritten" in listed


def test_select_and_ignore(fusegen: Run, tree: Path, work: Path) -> None:
    result = fusegen("emit", "--source", tree, "--select", "soft_cap")
    assert "1 forward of 1 model generated in generated" in result.output
    assert not (work / "generated/llama").exists()
    fusegen("emit", "--source", tree, "--ignore", "GemmaForCausalLM,FG2", "--force")
    assert not (work / "generated/gemma").exists()
    assert (work / "generated/llama/modeling_llama.py").exists()


@pytest.mark.parametrize("term", ["lama", "LamaForCausalLM"])
def test_a_selection_that_names_nothing_is_wrong_usage(fusegen: Run, tree: Path, work: Path, term: str) -> None:
    result = fusegen("emit", "--source", tree, "--select", term)
    assert result.exit_code == 2
    assert "Did you mean" in result.stderr
    assert not (work / "generated").exists()


def test_diff_prints_what_would_change_and_writes_nothing(fusegen: Run, tree: Path, work: Path) -> None:
    fusegen("emit", "--source", tree)
    modeling = tree / "models/llama/modeling_llama.py"
    modeling.write_text(modeling.read_text().replace("input_ids=input_ids", "input_ids"))
    before = (work / "generated/llama/modeling_llama.py").read_text()
    result = fusegen("emit", "--source", tree, "--diff", "--ignore", "gemma")
    assert result.exit_code == 0
    assert (
        "-        outputs = self.model(input_ids=input_ids)\n+        outputs = self.model(input_ids)" in result.stdout
    )
    assert "--- a/gemma/modeling_gemma.py\n+++ /dev/null\n" in result.stdout
    assert "1 forward of 1 model checked in generated" in result.stderr
    assert (work / "generated/llama/modeling_llama.py").read_text() == before
    assert fusegen("emit", "--source", tree, "--diff", "--check").exit_code == 1


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_printed_diff_is_what_would_be_written(fusegen: Run, tree: Path, work: Path) -> None:
    fusegen("emit", "--source", tree, "--out", "old", "--model", "llama")
    patch = fusegen("emit", "--source", tree, "--out", "old", "--model", "gemma", "--diff").stdout
    fusegen("emit", "--source", tree, "--out", "new", "--model", "gemma")
    subprocess.run(["git", "apply", "-"], cwd=work / "old", input=patch.encode(), check=True)
    contents = [
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (work / "old", work / "new")
    ]
    assert contents[0] == contents[1]


def test_nothing_is_printed_if_nothing_differs(fusegen: Run, tree: Path) -> None:
    fusegen("emit", "--source", tree)
    result = fusegen("emit", "--source", tree, "--diff", "--check")
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize("layout", ["full", "patch"])
def test_a_layout_replaces_another(fusegen: Run, tree: Path, work: Path, layout: str) -> None:
    fusegen("emit", "--source", tree)
    assert fusegen("emit", "--source", tree, "--layout", layout, "--force").exit_code == 0
    assert json.loads((work / "generated/manifest.json").read_text())["layout"] == layout
    assert fusegen("emit", "--source", tree, "--layout", layout, "--check").exit_code == 0
    assert fusegen("emit", "--source", tree, "--check").exit_code == 1
    suffix = "patch" if layout == "patch" else "py"
    assert len(list((work / "generated").glob(f"*/modeling_*.{suffix}"))) == 2


def test_a_record_of_verification_survives(fusegen: Run, tree: Path, work: Path) -> None:
    fusegen("emit", "--source", tree)
    place = work / "generated/manifest.json"
    manifest = json.loads(place.read_text())
    manifest["classes"][0]["verified"] = {"version": "5.99.0", "checks": {"loss": "same"}}
    place.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    # The page shows what was verified: it is written again, and its hash in the manifest.
    result = fusegen("emit", "--source", tree)
    assert "2 files written" in result.stdout
    assert json.loads(place.read_text())["classes"] == manifest["classes"]
    assert "<td>1 same</td>" in (work / "generated/report.html").read_text()
    assert fusegen("emit", "--source", tree, "--check").exit_code == 0


def test_the_folder_must_not_overlap_the_source(fusegen: Run, tree: Path) -> None:
    result = fusegen("emit", "--source", tree, "--out", tree / "models/generated")
    assert result.exit_code == 2
    assert "overlaps the source tree" in result.stderr


def test_a_file_that_is_no_python_is_named_and_the_rest_is_generated(fusegen: Run, tree: Path, work: Path) -> None:
    modeling = tree / "models/llama/modeling_llama.py"
    modeling.write_text(modeling.read_text().replace("        loss = None\n", "        loss = (\n"))
    result = fusegen("emit", "--source", tree)
    assert result.exit_code == 0
    assert "models/llama/modeling_llama.py:15: not Python:" in result.stderr
    assert (work / "generated/gemma/modeling_gemma.py").exists()


def test_a_tree_that_cannot_be_read_removes_nothing(fusegen: Run, tree: Path, work: Path) -> None:
    fusegen("emit", "--source", tree)
    for path in tree.glob("models/*/modeling_*.py"):
        path.write_bytes(b"\xff labels loss")
    result = fusegen("emit", "--source", tree)
    assert result.exit_code == 2
    assert "no file could be read" in result.stderr
    assert (work / "generated/gemma/modeling_gemma.py").exists()


def test_an_archive_that_was_cut_off_removes_nothing(fusegen: Run, tree: Path, cut_sdist: Path, work: Path) -> None:
    fusegen("emit", "--source", tree)
    result = fusegen("emit", "--source", cut_sdist)
    assert result.exit_code == 2
    assert "what follows was not read" in result.stderr
    assert "nothing is written to generated" in result.stderr
    assert (work / "generated/gemma/modeling_gemma.py").exists()


def test_the_cache_is_used_and_can_be_left_alone(fusegen: Run, tree: Path, cached: Callable[[], list[str]]) -> None:
    fusegen("emit", "--source", tree, "--no-cache")
    assert cached() == []
    fusegen("emit", "--source", tree)
    (first,) = cached()
    fusegen("emit", "--source", tree, "--layout", "full")
    fusegen("emit", "--source", tree)
    assert first in cached()
    assert len(cached()) == 2


@pytest.fixture
def cached() -> Callable[[], list[str]]:
    """The names of the files that the cache for emit has now."""
    return lambda: sorted(path.name for path in Path(os.environ["FUSEGEN_CACHE_DIR"]).glob("emit-*.cache"))
