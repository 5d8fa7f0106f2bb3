"""docs/coverage.md is what `make matrix` would write: its parts on small trees, and its row for what is installed."""

from __future__ import annotations

import importlib.util
import sys
import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version

from fusegen.codegen import pipeline
from fusegen.codegen.records import ScanReport
from fusegen.codegen.sources import open_source

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def matrix() -> ModuleType:
    spec = importlib.util.spec_from_file_location("matrix", ROOT / "benchmarks" / "matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["matrix"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def reports(tree: Path, write_tree: Callable[..., Path], tmp_path: Path) -> list[ScanReport]:
    """An older release in which Gemma's loss is computed in a loop, and the newest."""
    files = {path.relative_to(tree).as_posix(): path.read_text() for path in tree.rglob("*.py")}
    gemma = "models/gemma/modeling_gemma.py"
    files[gemma] = files[gemma].replace("if labels is not None:", "for each in labels:")
    older = write_tree(files | {"__init__.py": '__version__ = "5.98.0"\n'}, into=tmp_path / "older")
    return [pipeline.scan(open_source(str(root)), jobs=1) for root in (older, tree)]


def test_of_each_minor_release_the_newest_is_taken(matrix: ModuleType) -> None:
    given = ["4.55.9", "4.56.0", "4.56.10", "4.56.9", "5.0.0rc1", "5.0.0", "5.10.0", "5.9.1", "5.11.0rc1"]
    assert matrix.newest_of_each_minor(list(map(Version, given))) == ["4.56.10", "5.0.0", "5.9.1", "5.10.0"]


def test_the_table_counts_and_names_the_gaps(matrix: ModuleType, reports: list[ScanReport]) -> None:
    lines = matrix.table(reports).splitlines()
    assert "| 5.98.0 | 3 | 1 | 33.3 % | 2 | 0 | 1 of 2 |" in lines
    assert "| 5.99.0 | 3 | 2 | 66.7 % | 1 | 0 | 2 of 2 |" in lines
    (gap,) = (line for line in lines if line.startswith("| `gemma.GemmaForCausalLM` |"))
    assert gap.startswith("| `gemma.GemmaForCausalLM` | 5.98.0 | FG301 the loss is computed in a loop")


def test_the_plot_has_a_bar_for_each_release(matrix: ModuleType, reports: list[ScanReport]) -> None:
    root = xml.etree.ElementTree.fromstring(matrix.plot(reports))
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["5.98.0: 1 match, 1 FG203, 1 FG301", "5.99.0: 2 match, 1 FG203"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs transformers")
def test_the_row_of_the_installed_release_is_up_to_date(matrix: ModuleType) -> None:
    report = pipeline.scan(open_source("installed"))
    row = " | ".join(str(report.count(verdict)) for verdict in ("match", "reject", "delegated"))
    lines = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(f"| {report.version} | {len(report.sites)} "))
    cells = [cell.strip() for cell in line.split("|")]
    assert " | ".join((cells[3], cells[5], cells[6])) == row
