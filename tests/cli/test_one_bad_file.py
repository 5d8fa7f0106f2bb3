"""One bad file spoils no run: what fusegen fails on is named, and the other files are done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from fusegen.codegen import pages, pipeline, render, versions
from fusegen.codegen.records import ScanReport
from fusegen.codegen.report import FORMATS, Presentation, renderer
from fusegen.codegen.report.diff import FORMATS as DIFF_FORMATS

Run = Callable[..., Result]
GEMMA = "models/gemma/modeling_gemma.py"


def fails_for_gemma(function: Callable[..., object]) -> Callable[..., object]:
    def failing(*arguments: object, **options: object) -> object:
        if any("gemma" in repr(each).lower() for each in arguments):
            raise KeyError("lost\nits way")
        return function(*arguments, **options)

    return failing


def one_line_on_gemma(result: Result) -> None:
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if "internal error" in line]
    assert [line.split(":")[0] for line in lines] == [GEMMA]
    assert "KeyError: 'lost" in lines[0]
    assert "Traceback" not in result.output


@pytest.mark.parametrize("name", FORMATS)
def test_a_report_is_made_of_the_others(fusegen: Run, tree: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    render = renderer(name)

    def failing(report: ScanReport, presentation: Presentation) -> str:
        if any(site.model == "gemma" for site in report.sites):
            raise KeyError("lost\nits way")
        return render(report, presentation)

    monkeypatch.setattr(f"{FORMATS[name]}.render", failing)
    result = fusegen("scan", "--source", tree, "--format", name)
    one_line_on_gemma(result)
    assert "EditedForCausalLM" in result.stdout


def test_a_page_that_cannot_be_cut(fusegen: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_file_pages", fails_for_gemma(pages._file_pages))
    result = fusegen("scan", "--source", tree, "--format", "html")
    one_line_on_gemma(result)
    assert "LlamaForCausalLM" in result.stdout


@pytest.mark.parametrize("command", ["scan", "emit"])
def test_a_file_that_cannot_be_read(fusegen: Run, tree: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(pipeline, "read_index", fails_for_gemma(pipeline.read_index))
    one_line_on_gemma(fusegen(command, "--source", tree))


@pytest.mark.parametrize("layout", ["class", "full", "patch"])
def test_a_module_that_cannot_be_written(
    fusegen: Run, work: Path, tree: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    monkeypatch.setattr("fusegen.codegen.whole_file.fused_function", fails_for_gemma(render.fused_function))
    monkeypatch.setattr(render, "fused_function", fails_for_gemma(render.fused_function))
    one_line_on_gemma(fusegen("emit", "--source", tree, "--out", "out", "--layout", layout))
    assert list((work / "out" / "llama").glob("modeling_llama.*"))


def test_a_tree_whose_report_cannot_be_written(
    fusegen: Run, work: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_file_pages", fails_for_gemma(pages._file_pages))
    one_line_on_gemma(fusegen("emit", "--source", tree, "--out", "out"))
    assert (work / "out" / "llama" / "modeling_llama.py").exists()
    assert "LlamaForCausalLM" in (work / "out" / "report.html").read_text()


@pytest.mark.parametrize("name", DIFF_FORMATS)
def test_a_diff_is_made_of_the_others(
    fusegen: Run, write_tree: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    old, new = write_tree(into=tmp_path / "old"), write_tree(into=tmp_path / "new")
    for model in ("llama", "gemma"):
        file = new / f"models/{model}/modeling_{model}.py"
        file.write_text(file.read_text().replace("outputs.last_hidden_state)", "outputs.last_hidden_state) * 2"))
    monkeypatch.setattr(versions, "_changes", fails_for_gemma(versions._changes))
    result = fusegen("diff", old, new, "--format", name)
    one_line_on_gemma(result)
    assert "LlamaForCausalLM" in result.stdout


def test_a_file_that_its_process_dies_of(write_tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from fusegen.codegen.sources import open_source

    text = "class {0}ForCausalLM:\n    pass\n"
    files = {f"models/m{n}/modeling_m{n}.py": text.format(f"M{n}") for n in range(20)}
    tree = write_tree({"__init__.py": "", **files})
    read_index, this = pipeline.read_index, os.getpid()

    def deadly(path: str, *rest: object) -> object:
        if "m7/" in path and os.getpid() != this:
            os._exit(1)
        return read_index(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "read_index", deadly)
    report = pipeline.scan(open_source(str(tree)), jobs=2)
    assert [(each.file, each.internal) for each in report.failures] == [("models/m7/modeling_m7.py", True)]
    assert [len(file.classes) for file in report.files].count(1) == 19


def test_a_function_that_reaches_the_margin_is_shown_and_emitted(fusegen: Run, work: Path, tree: Path) -> None:
    margin = 'def template(mode):\n    return """{% set x = 1 %}\n{{ x }}\nclass Odd:\n"""\n\n\n'
    file = tree / "models/llama/modeling_llama.py"
    file.write_text(file.read_text().replace("class Llama", f"{margin}class Llama", 1))
    page = fusegen("scan", "--source", tree, "--format", "html")
    assert page.exit_code == 0
    assert "self.lm_head(outputs.last_hidden_state)" in page.stdout
    assert fusegen("emit", "--source", tree, "--out", "out").exit_code == 0
    assert "fusible(" in (work / "out/llama/modeling_llama.py").read_text()
