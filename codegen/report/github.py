"""Workflow commands of GitHub Actions: a warning for each rejection, an error for each file that was not read.

::warning file=src/transformers/models/x/modeling_x.py,line=480,col=13,title=FG203::x.XForCausalLM.forward: …
"""

from __future__ import annotations

from collections.abc import Iterator

from fusegen.codegen.records import REJECT, ScanReport
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.wording import ordered_sites, position, reason_text


def render(report: ScanReport, presentation: Presentation) -> str:
    lines = []
    for site in ordered_sites(report):
        if site.verdict == REJECT:
            line, column = position(site)
            where = spot(presentation, site.file, line) | {
                "col": str(column),
                "title": f"fusegen {site.code or REJECT}",
            }
            lines.append(command("warning", where, f"{site.id}: {reason_text(site)}"))
    return "".join(f"{line}\n" for line in (*lines, *failures(report, presentation)))


def failures(report: ScanReport, presentation: Presentation) -> Iterator[str]:
    """An error for each file that was not read."""
    for failure in report.failures:
        title = "fusegen internal error" if failure.internal else "fusegen cannot read this file"
        yield command("error", spot(presentation, failure.file, failure.line) | {"title": title}, failure.message)


def spot(presentation: Presentation, file: str, line: int) -> dict[str, str]:
    """The properties that place an annotation."""
    return {"file": presentation.prefix + file, "line": str(max(line, 1))}


def command(level: str, properties: dict[str, str], message: str) -> str:
    """One workflow command: `level` is `error`, `warning` or `notice`."""
    spelled = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{level} {spelled}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
