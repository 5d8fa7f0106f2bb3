"""A verification for people (full), for programs (json) and for a pull request (markdown)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from fusegen.codegen.visible import json_text, printable
from fusegen.verify.records import (
    DIFFERENT,
    FAILED,
    NOT_APPLICABLE,
    NOT_BUILT,
    NOT_EMITTED,
    NOT_FUSED,
    RAISES,
    SAME,
    SKIPPED,
    STALE,
    UNPROVEN,
    VERIFIED,
    CheckResult,
    ClassResult,
    Reach,
    VerifyReport,
)

SCHEMA_VERSION = 1
OUTCOMES = (VERIFIED, DIFFERENT, FAILED, NOT_FUSED, UNPROVEN, STALE, NOT_BUILT, NOT_EMITTED)
_SHOWN = 6  # modules without a gradient; json has them all
_SIGNS = {SAME: "✓", RAISES: "raises", DIFFERENT: "✗", NOT_FUSED: "not fused", NOT_APPLICABLE: "–", SKIPPED: "skipped"}


def render(report: VerifyReport, format_name: str, verbosity: int = 0) -> str:
    """The text of a report in one of `FORMATS`; it ends with a line feed."""
    return FORMATS[format_name](report if format_name == "json" else printable(report), verbosity)


def summary(report: VerifyReport) -> str:
    """One line: the classes by what came of them."""
    counts = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in OUTCOMES if report.count(outcome))
    classes = f"{len(report.classes)} {'class' if len(report.classes) == 1 else 'classes'}"
    return f"transformers {report.version}, {classes}: {counts or 'none'}"


def reached(report: VerifyReport) -> str:
    """One line: how many of the parameters the checks train."""
    parts = [each.reach for each in report.classes if each.reach]
    missed = sum(bool(each.untrained) for each in parts)
    rest = f"; -v lists what {missed} of {len(parts)} classes do not train" if missed else ""
    return f"{sum(each.trained for each in parts)} of {sum(each.parameters for each in parts)} parameter tensors{rest}"


def _full(report: VerifyReport, verbosity: int) -> str:
    lines = [summary(report)]
    for outcome in OUTCOMES:
        classes = [each for each in report.classes if each.outcome == outcome]
        if classes and (verbosity > 0 or outcome not in (VERIFIED, NOT_EMITTED)):
            lines += ["", outcome, *_outcome_lines(outcome, classes, verbosity)]
    without = [each for each in report.classes if each.reach and each.reach.refused]
    if without:
        lines += ["", "on text alone", *(f"  {each.id}: {each.reach.refused}" for each in without if each.reach)]
    if any(each.reach for each in report.classes):
        lines += ["", *_check_lines(report), f"{'trained':20} {reached(report)}"]
    return "\n".join(lines) + "\n"


def _outcome_lines(outcome: str, classes: list[ClassResult], verbosity: int) -> Iterator[str]:
    if outcome == STALE and verbosity <= 0:
        # A whole tree of another release is one mishap, not hundreds.
        for reason, number in Counter(each.reason for each in classes).items():
            yield f"  {number} {'class' if number == 1 else 'classes'} {reason}"
    else:
        yield from (line for each in classes for line in _class_lines(each, verbosity))


def _class_lines(result: ClassResult, verbosity: int) -> Iterator[str]:
    yield f"  {result.id}{f': {result.reason}' if result.reason else ''}"
    if result.reach and verbosity > 0:
        yield from _reach_lines(result.reach)
    for check in result.checks:
        if check.outcome in (DIFFERENT, NOT_FUSED, SKIPPED) or verbosity > 1:
            yield f"    {check.check}: {check.outcome}{_numbers(check)}"
            if check.outcome in (DIFFERENT, RAISES):
                yield f"      original  {check.original}"
                yield f"      patched   {check.patched}"
    yield from (f"      {line}" for line in result.lines.split("\n") if line)


def _reach_lines(reach: Reach) -> Iterator[str]:
    yield f"    {', '.join(reach.batch)}; trained {reach.trained} of {reach.parameters} parameter tensors"
    if reach.untrained:
        shown = reach.untrained[:_SHOWN]
        more = f" and {len(reach.untrained) - _SHOWN} more" if len(reach.untrained) > _SHOWN else ""
        yield f"    untrained: {', '.join(shown)}{more}{f' ({reach.reason})' if reach.reason else ''}"


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
    lines += [
        f"| class | batch | trained | {' | '.join(report.checks)} |",
        f"| --- |{' --- |' * (len(report.checks) + 2)}",
    ]
    lines += [_row(each, report.checks) for each in report.classes if each.checks]
    others = [each for each in report.classes if not each.checks and (verbosity > 0 or each.outcome != NOT_EMITTED)]
    lines += ["", "A number is the relative error of a check that came closest to what it allows."]
    lines += ["", *(f"- {each.id}: {each.outcome}, {each.reason}" for each in others)]
    for each in report.classes:
        for check in each.differences:
            lines += ["", f"**{each.id}, {check.check}**{_numbers(check)}: {check.original} → {check.patched}"]
        if each.lines:
            lines += ["", "```python", each.lines, "```"]
    return "\n".join(lines).rstrip() + "\n"


def _row(result: ClassResult, checks: tuple[str, ...]) -> str:
    signs = {check.check: _sign(check) for check in result.checks}
    reach = result.reach or Reach()
    cells = (
        ", ".join(reach.batch),
        f"{reach.trained} of {reach.parameters}",
        *(signs.get(name, "–") for name in checks),
    )
    return f"| {result.id} | {' | '.join(cells)} |"


def _sign(check: CheckResult) -> str:
    error = "" if check.error is None else f" {check.error:.0e}" if check.error else " 0"
    return _SIGNS[check.outcome] + error


def document(report: VerifyReport) -> dict[str, Any]:
    """The report as JSON data: a table class × check with the numbers, and what the checks of each class reach."""
    return {
        "schema_version": SCHEMA_VERSION,
        "transformers": report.version,
        "checks": list(report.checks),
        "summary": {outcome: report.count(outcome) for outcome in OUTCOMES},
        "classes": [_finite(asdict(each)) for each in report.classes],
    }


def _json(report: VerifyReport, verbosity: int) -> str:
    return json_text(json.dumps(document(report), indent=1, ensure_ascii=False)) + "\n"


def _finite(value: Any) -> Any:
    """The value with infinities as text: JSON has none."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


FORMATS: dict[str, Callable[[VerifyReport, int], str]] = {"full": _full, "json": _json, "markdown": _markdown}
