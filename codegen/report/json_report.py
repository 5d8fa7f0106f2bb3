"""The report as JSON, the form that other programs may rely on: docs/json-schema.json, additive only."""

from __future__ import annotations

import json
from typing import Any

from fusegen.codegen.records import (
    DELEGATED,
    MATCH,
    REJECT,
    SCHEMA_VERSION,
    Failure,
    Head,
    Operation,
    ScanReport,
    Site,
    VocabularyLoss,
)
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.wording import is_silent, ordered_sites
from fusegen.codegen.visible import json_text

JsonObject = dict[str, Any]


def render(report: ScanReport, presentation: Presentation) -> str:
    """The whole report, indented by 2, with the keys in the order of the schema."""
    return json_text(json.dumps(document(report, presentation.tool_version), indent=2, ensure_ascii=False)) + "\n"


def document(report: ScanReport, tool_version: str) -> JsonObject:
    """The report as JSON data."""
    sites = ordered_sites(report)
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "fusegen", "version": tool_version},
        "source": {"package": report.package, "version": report.version},
        "sites": [site_object(site) for site in sites],
        "summary": {
            "files": len(report.files),
            "sites": len(sites),
            "matched": report.count(MATCH),
            "rejected": report.count(REJECT),
            "delegated": report.count(DELEGATED),
        },
        "out_of_scope": _out_of_scope(report),
        "files_without_site": [file.path for file in report.files if is_silent(file)],
        "files": [{"path": file.path, "classes": list(file.classes)} for file in report.files],
        "complete": report.complete,
        "failures": [failure_object(failure) for failure in report.failures],
    }


def failure_object(failure: Failure) -> JsonObject:
    """Something that could not be read, with its place."""
    return {"file": failure.file, "line": failure.line, "message": failure.message, "internal": failure.internal}


def site_object(site: Site) -> JsonObject:
    """One site; `head`, `chain` and `labels` are those of its primary loss, `losses` has them all."""
    primary = site.primary
    return {
        "id": site.id,
        "model": site.model,
        "file": site.file,
        "class": site.class_name,
        "method": site.method,
        "line": site.line,
        "column": site.column + 1,
        "verdict": site.verdict,
        "head": primary.head.expression if primary and primary.head else None,
        "chain": [_operation(step) for step in primary.chain] if primary else [],
        "labels": primary.labels if primary else None,
        "code": site.code,
        "reason": site.reason,
        "excerpt": site.excerpt,
        "at_line": site.at_line,
        "at_column": None if site.at_column is None else site.at_column + 1,
        "delegated_to": site.delegated_to,
        "definition_line": site.def_line,
        "parameters": list(site.parameters),
        "losses": [_loss(loss) for loss in site.losses],
        "guards": list(site.guards),
        "uses": [{"kind": use.kind, "text": use.text, "line": use.line} for use in site.uses],
    }


def _operation(step: Operation) -> JsonObject:
    when = {} if step.when is None else {"when": step.when}
    return {"op": step.op} | dict(step.arguments) | when | {"line": step.line}


def _loss(loss: VocabularyLoss) -> JsonObject:
    return {
        "kind": loss.kind,
        "call": loss.call,
        "line": loss.line,
        "column": loss.column + 1,
        "labels": loss.labels,
        "label_source": loss.label_source,
        "label_value": loss.label_value,
        "vocab_size": loss.vocab_size,
        "keywords": dict(loss.keywords),
        "head": _head(loss.head) if loss.head else None,
        "chain": [_operation(step) for step in loss.chain],
    }


def _head(head: Head) -> JsonObject:
    return {
        "expression": head.expression,
        "linear": head.linear,
        "hidden": head.hidden,
        "rows": head.rows,
        "bias": head.bias,
        "before": list(head.before),
        "line": head.line,
    }


def _out_of_scope(report: ScanReport) -> list[JsonObject]:
    groups: dict[str, list[JsonObject]] = {}
    for file in report.files:
        for aside in file.asides:
            function = {"file": file.path, "function": aside.function, "line": aside.line}
            groups.setdefault(aside.why, []).append(function)
    return [{"why": why, "functions": groups[why]} for why in sorted(groups)]
