"""What the README shows is what the commands that it names print."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_performance_table_is_made_from_the_committed_results():
    path = ROOT / "benchmarks" / "linear_cross_entropy_results.py"
    spec = importlib.util.spec_from_file_location("linear_cross_entropy_results", path)
    results = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(results)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    report = json.loads(results.RESULTS.read_text(encoding="utf-8"))
    assert "| fusegen, exact |" in readme
    assert results.with_table(readme, report) == readme


def test_the_count_of_verified_classes_is_that_of_the_manifest():
    manifest = json.loads((ROOT / "generated" / "manifest.json").read_text(encoding="utf-8"))
    emitted, not_emitted = manifest["classes"], manifest["not_emitted"]
    release = manifest["source"]["version"]
    verified = [entry for entry in emitted if entry.get("verified", {}).get("version") == release]
    shown = re.search(r"transformers (\S+), (\d+) classes: (\d+) verified", (ROOT / "README.md").read_text("utf-8"))
    assert shown is not None
    assert shown.groups() == (release, str(len(emitted) + len(not_emitted)), str(len(verified)))
