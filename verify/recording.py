"""Puts verdicts into a generated tree, where `install(strict=True)`, `emit` and the reader of report.html find them.

    "verified": {"version": "5.23.0", "checks": {"some ignored": "same", ...}, "errors": {"bf16": 1e-07, ...}}

A class that differs, or was not compared to the end, loses the entry that it had. Others keep theirs, stale ones too:
what was found with another release is as true as it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusegen.codegen.manifest import as_text, digests
from fusegen.codegen.package import REPORT
from fusegen.codegen.report.verified import renewed
from fusegen.codegen.writer import write
from fusegen.verify.records import NOT_APPLICABLE, STALE, VERIFIED, ClassResult, VerifyReport
from fusegen.verify.targets import FIELD, MANIFEST, read_manifest


def record(report: VerifyReport, generated: Path) -> int:
    """Writes the verdicts of a report into manifest.json and report.html in one step; the number of verified entries.

    The tree is then what `fusegen emit` would write. Raises `WriteError` if report.html was edited by hand, or the
    folder cannot be written to.
    """
    manifest = read_manifest(generated)
    results = {each.id: each for each in report.classes}
    for entry in manifest["classes"]:
        result = results.get(f"{entry['model']}.{entry['class']}")
        if result is None or result.outcome == STALE:
            continue
        entry.pop(FIELD, None)
        if result.outcome == VERIFIED:
            entry[FIELD] = _verdict(result, report.version)
    present = [path for path in manifest["files"] if (generated / path).is_file()]
    files = {path: (generated / path).read_bytes().decode() for path in present}
    if REPORT in files:
        files[REPORT] = renewed(files[REPORT], manifest["classes"])
        manifest["files"] |= digests({REPORT: files[REPORT]})
    write(generated, files | {MANIFEST: as_text(manifest)})
    return sum(FIELD in entry for entry in manifest["classes"])


def _verdict(result: ClassResult, version: str) -> dict[str, Any]:
    """Outcomes, and errors above 0 to one digit: more of them is another machine's or another torch's."""
    made = [check for check in result.checks if check.outcome != NOT_APPLICABLE]
    errors = {check.check: float(f"{check.error:.0e}") for check in made if check.error}
    return {"version": version, "checks": {check.check: check.outcome for check in made}, "errors": errors}
