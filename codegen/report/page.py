"""What the HTML report shows of one site beside its verdict: the two sides of its function, and where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fusegen.codegen.records import Site

PASSED = "passed"
FAILED = "failed"


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
class Verification:
    """What `fusegen verify` found for a class: under which version, and each check with its outcome in words."""

    version: str
    checks: tuple[tuple[str, str], ...]

    @classmethod
    def from_manifest(cls, entry: Mapping[str, Any]) -> Verification | None:
        """The `verified` field of an entry of manifest.json; None for an entry that has none."""
        verified = entry.get("verified")
        if not verified:
            return None
        return cls(str(verified["version"]), tuple((name, _outcome(each)) for name, each in verified["checks"].items()))

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(name for name, outcome in self.checks if outcome == FAILED)


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
    verified: Verification | None = None


def _outcome(value: Any) -> str:
    """`True` is passed, `False` failed; what says more is shown as it is."""
    if isinstance(value, bool):
        return PASSED if value else FAILED
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return str(value)
