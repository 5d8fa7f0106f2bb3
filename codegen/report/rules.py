"""The reason codes, explained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from textwrap import indent, wrap

from fusegen.codegen.records import SCHEMA_VERSION
from fusegen.codegen.report.pen import Pen
from fusegen.codegen.visible import json_text
from fusegen.contract.reasons import Reason


def render_list(reasons: Sequence[Reason], *, color: bool = False) -> str:
    """One line a code."""
    pen = Pen(color)
    width = max((len(reason.name) for reason in reasons), default=0)
    return "".join(f"{pen('cyan', reason.code)}  {reason.name:<{width}}  {reason.summary}\n" for reason in reasons)


def render_rule(reason: Reason, *, color: bool = False) -> str:
    """One code in full: what it means, why it matters, the smallest example, the way out."""
    pen = Pen(color)
    sections = [
        f"{pen('cyan', reason.code)} {pen('bold', reason.name)}: {reason.summary}",
        _paragraph(reason.why),
        pen("bold", "Example") + "\n\n" + indent(reason.example, "    "),
        pen("bold", "What would make it fusible") + "\n\n" + _paragraph(reason.remedy),
    ]
    return "\n\n".join(sections) + "\n"


def render_json(reasons: Sequence[Reason]) -> str:
    """`{"schema_version": 1, "rules": [...]}` with the fields of each reason."""
    document = {"schema_version": SCHEMA_VERSION, "rules": [asdict(reason) for reason in reasons]}
    return json_text(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"


def _paragraph(text: str) -> str:
    return "\n".join(wrap(text, 96))
