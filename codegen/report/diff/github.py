"""Workflow commands of GitHub Actions for regressions: an error for a lost match, a warning for a changed chain."""

from __future__ import annotations

from fusegen.codegen.report.diff.wording import change_text
from fusegen.codegen.report.github import command, failures, spot
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.wording import position
from fusegen.codegen.versions import LOST_MATCH, REGRESSIONS, Comparison


def render(comparison: Comparison, presentation: Presentation) -> str:
    lines = []
    for kind in REGRESSIONS:
        for change in comparison.of_kind(kind):
            line = position(change.new)[0] if change.new else 1
            where = spot(presentation, change.site.file, line) | {"title": f"fusegen {kind}"}
            lines.append(command("error" if kind == LOST_MATCH else "warning", where, change_text(change)))
    lines += failures(comparison.new, presentation)
    return "".join(f"{line}\n" for line in lines)
