"""What the HTML report shows of one site beside its verdict: both sides of its function, and what was verified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from fusegen.codegen.records import Site

SAME = "same"
RAISES = "raises"

# The outcomes of checks in words, where those of the manifest are too short for a person.
_WORDS = {RAISES: "raising alike"}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Lines of a file: its path, the line that the first one is (from 1), and the text."""

    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a match has no generated forward: a reason code, what is in the way, and the line."""

    code: str
    detail: str
    line: int


@dataclass(frozen=True, slots=True)
class SitePage:
    """A site with its function as it is in the source, with decorators, and as it was generated.

    `original` is None where the source is not at hand; `elsewhere` holds the lines of other functions of the file
    that take part in the verdict; of `patched` and `refusal` one is given for a match, if anything was generated
    from this tree at all.
    """

    site: Site
    original: Excerpt | None
    elsewhere: tuple[Excerpt, ...] = ()
    patched: Excerpt | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What `fusegen verify` found for a site: under which version, each check with its outcome, and errors above 0.

    `errors` is None where they were not recorded.
    """

    site: str
    version: str
    checks: Mapping[str, str]
    errors: Mapping[str, float] | None = None

    @property
    def summary(self) -> str:
        """How many checks came out how: "17 same, 1 raising alike"."""
        counts = Counter(self.checks.values())
        return ", ".join(f"{number} {_WORDS.get(outcome, outcome)}" for outcome, number in counts.most_common())

    def cell(self, check: str) -> str:
        """The largest relative error of a check, or its outcome if there was nothing to compare; a dash for none."""
        outcome = self.checks.get(check, "–")
        if outcome != SAME or self.errors is None:
            return outcome
        return f"{self.errors[check]:.0e}" if check in self.errors else "0"
