"""Puts verdicts into the manifest of a generated tree, where `install(strict=True)` and `emit` find them.

    "verified": {"version": "5.23.0", "checks": {"some ignored": "same", "bf16": "same", ...}}

A class that differs, or was not compared to the end, loses the entry that it had; others keep theirs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from fusegen.verify.records import NOT_APPLICABLE, VERIFIED, VerifyReport
from fusegen.verify.targets import FIELD, MANIFEST, read_manifest


def record(report: VerifyReport, generated: Path) -> int:
    """Writes the verdicts of a report into `generated/manifest.json` in one step; the number of verified entries."""
    manifest = read_manifest(generated)
    results = {each.id: each for each in report.classes}
    for entry in manifest["classes"]:
        result = results.get(f"{entry['model']}.{entry['class']}")
        if result is None:
            continue
        entry.pop(FIELD, None)
        if result.outcome == VERIFIED:
            checks = {check.check: check.outcome for check in result.checks if check.outcome != NOT_APPLICABLE}
            entry[FIELD] = {"version": report.version, "checks": checks}
    beside = generated / f".{MANIFEST}.{os.getpid()}"
    beside.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(beside, generated / MANIFEST)
    return sum(FIELD in entry for entry in manifest["classes"])
