"""The comparison as JSON: docs/diff-schema.json, additive only. A site is the object that the scan's report has."""

from __future__ import annotations

import json
from typing import Any

from fusegen.codegen.records import DELEGATED, MATCH, REJECT, SCHEMA_VERSION, ScanReport
from fusegen.codegen.report.json_report import failure_object, site_object
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.versions import KINDS, NOT_COMPARED, Change, Comparison
from fusegen.codegen.visible import json_text

JsonObject = dict[str, Any]


def render(comparison: Comparison, presentation: Presentation) -> str:
    """The whole comparison, indented by 2, with the keys in the order of the schema."""
    return json_text(json.dumps(_document(comparison, presentation.tool_version), indent=2, ensure_ascii=False)) + "\n"


def _document(comparison: Comparison, tool_version: str) -> JsonObject:
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "fusegen", "version": tool_version},
        "old": _tree(comparison.old),
        "new": _tree(comparison.new),
        "models": {"added": list(comparison.models_added), "removed": list(comparison.models_removed)},
        "summary": {kind: len(comparison.of_kind(kind)) for kind in KINDS} | {"unchanged": comparison.unchanged},
        "changes": [_change(change) for change in comparison.changes],
        "not_compared": [change.id for change in comparison.of_kind(NOT_COMPARED)],
    }


def _tree(report: ScanReport) -> JsonObject:
    return {
        "package": report.package,
        "version": report.version,
        "sites": len(report.sites),
        "matched": report.count(MATCH),
        "rejected": report.count(REJECT),
        "delegated": report.count(DELEGATED),
        "failures": [failure_object(failure) for failure in report.failures],
    }


def _change(change: Change) -> JsonObject:
    return {
        "kind": change.kind,
        "id": change.id,
        "model": change.site.model,
        "class": change.site.class_name,
        "why": change.why,
        "edits": [{"part": edit.part, "old": edit.old, "new": edit.new, "line": edit.line} for edit in change.edits],
        "old": site_object(change.old) if change.old else None,
        "new": site_object(change.new) if change.new else None,
    }
