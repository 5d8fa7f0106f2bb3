"""One renderer per format of `fusegen diff`, each a pure function of a `Comparison` and a `Presentation`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from fusegen.codegen.report import EXACT, WITH_LINE_FEEDS
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.versions import Comparison
from fusegen.codegen.visible import printable

Renderer = Callable[[Comparison, Presentation], str]

FORMATS = {
    "text": "fusegen.codegen.report.diff.text",
    "json": "fusegen.codegen.report.diff.json_diff",
    "markdown": "fusegen.codegen.report.diff.markdown",
    "github": "fusegen.codegen.report.diff.github",
    "sarif": "fusegen.codegen.report.diff.sarif",
}


def renderer(name: str) -> Renderer:
    """The renderer of a format; only that one is imported. Each ends its text with a line feed or is empty."""
    render: Renderer = import_module(FORMATS[name]).render
    if name in EXACT:
        return render
    keep = "\r\n" if name in WITH_LINE_FEEDS else ""
    return lambda comparison, presentation: render(printable(comparison, keep), presentation)


__all__ = ["FORMATS", "Presentation", "Renderer", "renderer"]
