"""What became of each method: the records that `install` reports and `audit` counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType

from fusegen.runtime.reasons import REASONS

# Where a fused body comes from, the first that there is.
CANONICAL = "canonical"
GIVEN = "given"
SHIPPED = "shipped"
IN_MEMORY = "in-memory"

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Body:
    """A function that can take the place of `module.class_name.method`, and where it comes from."""

    module: str
    class_name: str
    method: str
    function: FunctionType
    tier: str
    verified: bool = False

    @property
    def name(self) -> str:
        return f"{self.module}.{self.class_name}.{self.method}"


@dataclass(frozen=True, slots=True)
class Refused:
    """A method that is left alone: its dotted name, a code, and why in a sentence."""

    name: str
    code: str
    reason: str


def refused(name: str, code: str, detail: str = "") -> Refused:
    """A refusal with one of the codes of `reasons`, and what is particular about it."""
    return Refused(name, code, f"{REASONS[code]}: {detail}" if detail else REASONS[code])


@dataclass(frozen=True, slots=True)
class InstallReport:
    """How things stand when it is made, in dotted names of methods. Another `install()` gives a fresh one.

    `tiers` says of each installed method where its fused body comes from. `unmatched` are losses for which
    there is no fused body, with the code of `fusegen rule`; known here only where a body was looked for in memory.
    """

    tiers: Mapping[str, str]
    pending: tuple[str, ...] = ()
    refused: tuple[Refused, ...] = ()
    unmatched: tuple[Refused, ...] = ()

    @property
    def installed(self) -> tuple[str, ...]:
        return tuple(self.tiers)

    def __str__(self) -> str:
        tiers = ", ".join(f"{count} {tier}" for tier, count in sorted(Counter(self.tiers.values()).items()))
        counts = (
            f"{len(self.tiers)} installed{f' ({tiers})' if tiers else ''}, "
            f"{len(self.pending)} pending import, {len(self.refused)} refused"
            f"{f', {len(self.unmatched)} not fused' if self.unmatched else ''}"
        )
        return "\n".join([counts, *_by_code((*self.refused, *self.unmatched))])


def _by_code(all_refused: tuple[Refused, ...]) -> Iterator[str]:
    for code in dict.fromkeys(each.code for each in all_refused):
        alike = [each for each in all_refused if each.code == code]
        yield from (f"{each.name}: {code} {each.reason}" for each in alike[:_SHOWN])
        if len(alike) > _SHOWN:
            yield f"... and {len(alike) - _SHOWN} more: {code}"


class InstallError(Exception):
    """Raised under `strict`: `report` says which methods are refused. Nothing has been patched.

    It is no RuntimeError, since transformers replaces one that an import raises by a word on missing requirements.
    """

    def __init__(self, report: InstallReport, what_to_do: str = "") -> None:
        super().__init__("\n".join(filter(None, (str(report), what_to_do))))
        self.report = report
