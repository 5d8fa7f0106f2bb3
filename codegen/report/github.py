"""Workflow commands of GitHub Actions: a warning for each rejection, an error for each file that was not read.

::warning file=src/transformers/models/x/modeling_x.py,line=480,col=13,title=FG203::x.XForCausalLM.forward: …
"""

from __future__ import annotations

from fusegen.codegen.records import REJECT, ScanReport
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.wording import ordered_sites, position, reason_text


def render(report: ScanReport, presentation: Presentation) -> str:
    lines = []
    for site in ordered_sites(report):
        if site.verdict == REJECT:
            line, column = position(site)
            spot = _spot(presentation, site.file, line) | {
                "col": str(column),
                "title": f"fusegen {site.code or REJECT}",
            }
            lines.append(_command("warning", spot, f"{site.id}: {reason_text(site)}"))
    for failure in report.failures:
        title = "fusegen internal error" if failure.internal else "fusegen cannot read this file"
        spot = _spot(presentation, failure.file, failure.line) | {"title": title}
        lines.append(_command("error", spot, failure.message))
    return "".join(f"{line}\n" for line in lines)


def _spot(presentation: Presentation, file: str, line: int) -> dict[str, str]:
    return {"file": presentation.prefix + file, "line": str(max(line, 1))}


def _command(level: str, properties: dict[str, str], message: str) -> str:
    spelled = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{level} {spelled}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
