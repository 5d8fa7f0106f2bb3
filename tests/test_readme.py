"""What the README shows is what the commands that it names print."""

from __future__ import annotations

import json
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_the_performance_table_is_made_from_the_committed_results():
    results, readme = import_module("linear_cross_entropy_results"), import_module("readme")
    report = json.loads(results.RESULTS.read_text(encoding="utf-8"))
    assert "| fusegen, exact |" in README
    assert readme.with_part(README, results.PART, results.short_table(report)) == README


def test_the_count_of_verified_classes_is_that_of_the_manifest():
    counting, readme = import_module("verified_count"), import_module("readme")
    manifest = json.loads((ROOT / "generated" / "manifest.json").read_text(encoding="utf-8"))
    line = counting.count(manifest)
    assert line.startswith(f"transformers {manifest['source']['version']}, ")
    assert line in README
    assert readme.with_part(README, "verified", counting.part(manifest)) == README


def test_only_what_is_recorded_for_the_release_counts():
    entry = {"model": "a", "verified": {"version": "5.23.0"}}
    older = entry | {"class": "B", "verified": {"version": "5.17.0"}}
    classes = [entry | {"class": "A"}, older, {"model": "a", "class": "C"}]
    manifest = {"source": {"version": "5.23.0"}, "classes": classes, "not_emitted": [{}]}
    line = "transformers 5.23.0, 4 classes: 1 verified, 2 not verified, 1 not emitted"
    assert import_module("verified_count").count(manifest) == line


def test_make_record_renews_the_line_after_the_verdicts():
    command = ["make", "-n", "--no-print-directory", "record"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    verify, count = done.stdout.splitlines()[-2:]
    assert verify.endswith("fusegen verify --checks all --record")
    assert count.endswith("benchmarks/verified_count.py --readme")
