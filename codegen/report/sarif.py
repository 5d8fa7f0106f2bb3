"""SARIF 2.1.0 for code scanning: a rule for each reason code, a result for each rejection.

Paths are relative to the working directory when the tree lies below it, else to the base `TRANSFORMERS`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from fusegen.codegen.reasons import REASONS
from fusegen.codegen.records import REJECT, Failure, ScanReport, Site
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.wording import ordered_sites, position, reason_text
from fusegen.codegen.visible import json_text
from fusegen.contract.reasons import Reason

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
BASE = "TRANSFORMERS"

JsonObject = dict[str, Any]


def render(report: ScanReport, presentation: Presentation) -> str:
    rejected = [site for site in ordered_sites(report) if site.verdict == REJECT]
    codes = sorted(REASONS.keys() | {site.code for site in rejected if site.code})
    rules = [_rule(code, REASONS.get(code)) for code in codes]
    results = [_result(site, codes, presentation.prefix) for site in rejected]
    log = document(report, rules, results, presentation)
    return json_text(json.dumps(log, indent=2, ensure_ascii=False)) + "\n"


def document(
    report: ScanReport, rules: list[JsonObject], results: list[JsonObject], presentation: Presentation
) -> JsonObject:
    """A log of one run over the tree of `report`, with its failures as notifications."""
    run: JsonObject = {
        "tool": {
            "driver": {
                "name": "fusegen",
                "version": presentation.tool_version,
                "semanticVersion": presentation.tool_version,
                "rules": rules,
            }
        },
        "invocations": [
            {
                "executionSuccessful": not any(failure.internal for failure in report.failures),
                "toolExecutionNotifications": [_notification(each, presentation.prefix) for each in report.failures],
            }
        ],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    if not presentation.prefix:
        text = f"The folder of the {report.package} package, version {report.version or 'unknown'}."
        run["originalUriBaseIds"] = {BASE: {"description": {"text": text}}}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def location(site: Site, region: JsonObject, prefix: str) -> JsonObject:
    """A region of the file of `site`, under its id."""
    return {
        "physicalLocation": {"artifactLocation": _artifact(site.file, prefix), "region": region},
        "logicalLocations": [{"fullyQualifiedName": site.id, "kind": "function"}],
    }


def fingerprint(*parts: str | None) -> str:
    """What tells a result from others, whatever lines move."""
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:32]


def _rule(code: str, reason: Reason | None) -> JsonObject:
    if reason is None:
        return {"id": code}
    return {
        "id": code,
        "name": "".join(word.capitalize() for word in reason.name.split("-")),
        "shortDescription": {"text": reason.summary},
        "fullDescription": {"text": reason.why},
        "help": {"text": f"{reason.why}\n\nExample:\n{reason.example}\n\nWould make it fusible: {reason.remedy}"},
        "defaultConfiguration": {"level": "warning"},
    }


def _result(site: Site, codes: list[str], prefix: str) -> JsonObject:
    line, column = position(site)
    region: JsonObject = {"startLine": line, "startColumn": column}
    if site.excerpt:
        region["snippet"] = {"text": site.excerpt}
    rule = {"ruleId": site.code, "ruleIndex": codes.index(site.code)} if site.code else {}
    return rule | {
        "level": "warning",
        "message": {"text": f"{site.id}: {reason_text(site)}"},
        "locations": [location(site, region, prefix)],
        "partialFingerprints": {"site/v1": fingerprint(site.id, site.code)},
    }


def _notification(failure: Failure, prefix: str) -> JsonObject:
    place = {"artifactLocation": _artifact(failure.file, prefix), "region": {"startLine": max(failure.line, 1)}}
    return {"level": "error", "message": {"text": failure.message}, "locations": [{"physicalLocation": place}]}


def _artifact(file: str, prefix: str) -> JsonObject:
    return {"uri": quote(prefix + file)} | ({} if prefix else {"uriBaseId": BASE})
