"""How a report is to look, apart from what it says."""

from __future__ import annotations

from dataclasses import dataclass

from fusegen.codegen.report.page import SitePage, Verification


@dataclass(frozen=True, slots=True)
class Presentation:
    """`verbosity` above 0 lists what is otherwise counted; `prefix` leads from the working directory to the package.

    `prefix` is empty or ends in a slash; only formats whose reader opens files (github, sarif) use it. `pages` are
    the functions behind the sites, for the formats of `WITH_PAGES`; a site without one is shown without its source.
    `verified` is what was verified of the generated forwards; only the HTML report shows it.
    """

    tool_version: str
    color: bool = False
    verbosity: int = 0
    prefix: str = ""
    pages: tuple[SitePage, ...] = ()
    verified: tuple[Verification, ...] = ()
