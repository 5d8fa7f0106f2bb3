"""A verification for people (full), for programs (json) and for a pull request (markdown)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from fusegen.verify.records import (
    DIFFERENT,
    FAILED,
    NOT_APPLICABLE,
    NOT_BUILT,
    NOT_EMITTED,
    NOT_FUSED,
    RAISES,
    SAME,
    VERIFIED,
    CheckResult,
    ClassResult,
    VerifyReport,
)

SCHEMA_VERSION = 1
OUTCOMES = (VERIFIED, DIFFERENT, FAILED, NOT_FUSED, NOT_BUILT, NOT_EMITTED)
_SIGNS = {SAME: "✓", RAISES: "raises", DIFFERENT: "✗", NOT_FUSED: "not fused", NOT_APPLICABLE: "–"}


def render(report: VerifyReport, format_name: str, verbosity: int = 0) -> str:
    """The text of a report in one of `FORMATS`; it ends with a line feed."""
    return FORMATS[format_name](report, verbosity)


def summary(report: VerifyReport) -> str:
    """One line: the classes by what came of them."""
    counts = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in OUTCOMES if report.count(outcome))
    classes = f"{len(report.classes)} {'class' if len(report.classes) == 1 else 'classes'}"
    return f"transformers {report.version}, {classes}: {counts or 'none'}"


def _full(report: VerifyReport, verbosity: int) -> str:
    lines = [summary(report)]
    for outcome in OUTCOMES:
        classes = [each for each in report.classes if each.outcome == outcome]
        if classes and (verbosity > 0 or outcome not in (VERIFIED, NOT_EMITTED)):
            lines += ["", outcome, *(line for each in classes for line in _class_lines(each, verbosity))]
    return "\n".join([*lines, "", *_check_lines(report)]) + "\n"


def _class_lines(result: ClassResult, verbosity: int) -> Iterator[str]:
    yield f"  {result.id}{f': {result.reason}' if result.reason else ''}"
    for check in result.checks:
        if check.outcome in (DIFFERENT, NOT_FUSED) or verbosity > 1:
            yield f"    {check.check}: {check.outcome}{_numbers(check)}"
            if check.outcome in (DIFFERENT, RAISES):
                yield f"      original  {check.original}"
                yield f"      patched   {check.patched}"
    yield from (f"      {line}" for line in result.lines.split("\n") if line)


def _numbers(check: CheckResult) -> str:
    parts = [check.quantity] if check.quantity else []
    if check.error is not None:
        parts.append(f"error {check.error:.2g}, allowed {check.tolerance:.2g}")
    return f" ({'; '.join([*parts, *([check.detail] if check.detail else [])])})" if parts or check.detail else ""


def _check_lines(report: VerifyReport) -> Iterator[str]:
    for name in report.checks:
        outcomes = Counter(check.outcome for each in report.classes for check in each.checks if check.check == name)
        if outcomes:
            yield f"{name:20} {', '.join(f'{number} {outcome}' for outcome, number in outcomes.most_common())}"


def _markdown(report: VerifyReport, verbosity: int) -> str:
    lines = [f"### fusegen verify: {summary(report)}", ""]
    lines += [f"| class | {' | '.join(report.checks)} |", f"| --- |{' --- |' * len(report.checks)}"]
    for each in report.classes:
        if each.checks:
            signs = {check.check: _SIGNS[check.outcome] for check in each.checks}
            lines.append(f"| {each.id} | {' | '.join(signs.get(name, '–') for name in report.checks)} |")
    others = [each for each in report.classes if not each.checks and (verbosity > 0 or each.outcome != NOT_EMITTED)]
    lines += ["", *(f"- {each.id}: {each.outcome}, {each.reason}" for each in others)]
    for each in report.classes:
        for check in each.differences:
            lines += ["", f"**{each.id}, {check.check}**{_numbers(check)}: {check.original} → {check.patched}"]
        if each.lines:
            lines += ["", "```python", each.lines, "```"]
    return "\n".join(lines).rstrip() + "\n"


def document(report: VerifyReport) -> dict[str, Any]:
    """The report as JSON data: a table class × check with the numbers."""
    return {
        "schema_version": SCHEMA_VERSION,
        "transformers": report.version,
        "checks": list(report.checks),
        "summary": {outcome: report.count(outcome) for outcome in OUTCOMES},
        "classes": [_finite(asdict(each)) for each in report.classes],
    }


def _json(report: VerifyReport, verbosity: int) -> str:
    return json.dumps(document(report), indent=1, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    """The value with infinities as text: JSON has none."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


FORMATS: dict[str, Callable[[VerifyReport, int], str]] = {"full": _full, "json": _json, "markdown": _markdown}
