"""SARIF 2.1.0 for regressions: a result for each lost match and each changed chain, in the new tree."""

from __future__ import annotations

import json

from fusegen.codegen.records import Site
from fusegen.codegen.report.diff.wording import change_text
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.sarif import JsonObject, document, fingerprint, location
from fusegen.codegen.report.wording import position
from fusegen.codegen.versions import CHANGED_CHAIN, KINDS, LOST_MATCH, REGRESSIONS, Change, Comparison
from fusegen.codegen.visible import json_text

_LEVELS = {LOST_MATCH: "error", CHANGED_CHAIN: "warning"}

_MEANINGS = {
    LOST_MATCH: "The forward was matched in the old tree and is not in the new one: it runs unfused from now on.",
    CHANGED_CHAIN: "What stands between head and loss changed, or the labels, or the conditions of the fused path: a "
    "forward generated from the old tree is wrong for the new one.",
}


def render(comparison: Comparison, presentation: Presentation) -> str:
    rules = [_rule(kind) for kind in REGRESSIONS]
    results = [_result(change, presentation.prefix) for kind in REGRESSIONS for change in comparison.of_kind(kind)]
    log = document(comparison.new, rules, results, presentation)
    return json_text(json.dumps(log, indent=2, ensure_ascii=False)) + "\n"


def _rule(kind: str) -> JsonObject:
    return {
        "id": kind,
        "name": "".join(word.capitalize() for word in kind.split("-")),
        "shortDescription": {"text": KINDS[kind]},
        "fullDescription": {"text": _MEANINGS[kind]},
        "defaultConfiguration": {"level": _LEVELS[kind]},
    }


def _result(change: Change, prefix: str) -> JsonObject:
    return {
        "ruleId": change.kind,
        "ruleIndex": REGRESSIONS.index(change.kind),
        "level": _LEVELS[change.kind],
        "message": {"text": change_text(change)},
        "locations": [location(change.site, _region(change.new), prefix)],
        "partialFingerprints": {"change/v1": fingerprint(change.id, change.kind)},
    }


def _region(site: Site | None) -> JsonObject:
    if site is None:
        return {"startLine": 1}
    line, column = position(site)
    snippet = {"snippet": {"text": site.excerpt}} if site.excerpt else {}
    return {"startLine": line, "startColumn": column} | snippet
