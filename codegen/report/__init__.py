"""One renderer per format, each a pure function of a `ScanReport` and a `Presentation`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from fusegen.codegen.records import ScanReport
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.visible import printable

Renderer = Callable[[ScanReport, Presentation], str]

FORMATS = {
    "full": "fusegen.codegen.report.full",
    "concise": "fusegen.codegen.report.concise",
    "json": "fusegen.codegen.report.json_report",
    "json-lines": "fusegen.codegen.report.json_lines",
    "html": "fusegen.codegen.report.html_report",
    "markdown": "fusegen.codegen.report.markdown",
    "github": "fusegen.codegen.report.github",
    "sarif": "fusegen.codegen.report.sarif",
}

# Formats that show source text: they want `Presentation.pages`.
WITH_PAGES = frozenset({"html"})

# Formats for programs, which hold names and lines as they are; all others are for eyes and terminals.
EXACT = frozenset({"json", "json-lines"})

# Formats that have a way of their own to spell a line feed.
WITH_LINE_FEEDS = frozenset({"github"})


def renderer(name: str) -> Renderer:
    """The renderer of a format; only that one is imported. Each ends its text with a line feed or is empty."""
    render: Renderer = import_module(FORMATS[name]).render
    if name in EXACT:
        return render
    keep = "\r\n" if name in WITH_LINE_FEEDS else ""
    return lambda report, presentation: render(printable(report, keep), presentation)


__all__ = ["FORMATS", "WITH_PAGES", "Presentation", "Renderer", "renderer"]
