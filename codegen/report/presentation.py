"""How a report is to look, apart from what it says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Presentation:
    """`verbosity` above 0 lists what is otherwise counted; `prefix` leads from the working directory to the package.

    `prefix` is empty or ends in a slash; only formats whose reader opens files (github, sarif) use it.
    """

    tool_version: str
    color: bool = False
    verbosity: int = 0
    prefix: str = ""
