"""Which sites a report shows, and which of them make a run fail.

A term is a verdict (`match`, `reject`, `delegated`), `unmatched` (either of the last two), a reason code or
the beginning of one (`FG203`, `FG2`), or an operation of the chain (`soft_cap`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from fusegen.codegen.records import DELEGATED, MATCH, REJECT, ScanReport, Site

UNMATCHED = "unmatched"
VERDICTS = (MATCH, REJECT, DELEGATED, UNMATCHED)

_CODE = re.compile(r"FG\d*", re.IGNORECASE)


class UnknownTerm(ValueError):
    """A term that is no verdict, no known code and no operation; says what comes close."""


@dataclass(frozen=True)
class Terms:
    """A parsed list of terms. A site matches if any of them does."""

    words: tuple[str, ...]

    @classmethod
    def parse(cls, words: Iterable[str], codes: Iterable[str], operations: Iterable[str]) -> Terms:
        """The terms in `words`. Raises `UnknownTerm` for one that could never match."""
        codes, operations = tuple(codes), tuple(operations)
        return cls(tuple(_known(word.strip(), codes, operations) for word in words if word.strip()))

    def __bool__(self) -> bool:
        return bool(self.words)

    def match(self, site: Site) -> bool:
        """Whether any term names the site's verdict, code or one of its operations."""
        operations = {step.op for loss in site.losses for step in loss.chain}
        return any(
            word == site.verdict
            or (word == UNMATCHED and site.verdict != MATCH)
            or (word.startswith("FG") and site.code is not None and site.code.startswith(word))
            or word in operations
            for word in self.words
        )


def known_operations() -> tuple[str, ...]:
    """The operations that a chain can have: each file of codegen/logit_ops is named after its operation."""
    from fusegen.codegen.logit_ops import LOGIT_OPS

    return tuple(read.__module__.rpartition(".")[2] for read in LOGIT_OPS)


def narrow(report: ScanReport, select: Terms, ignore: Terms) -> ScanReport:
    """`report` with the sites that `select` names (all, if it is empty) and `ignore` does not."""
    if not select and not ignore:
        return report

    def shown(site: Site) -> bool:
        return (not select or select.match(site)) and not ignore.match(site)

    files = tuple(replace(file, sites=tuple(filter(shown, file.sites))) for file in report.files)
    return replace(report, files=files, complete=False)


def _known(word: str, codes: tuple[str, ...], operations: tuple[str, ...]) -> str:
    if _CODE.fullmatch(word):
        word = word.upper()
        if any(code.startswith(word) for code in codes):
            return word
    elif word in VERDICTS or word in operations:
        return word
    from difflib import get_close_matches

    close = get_close_matches(word, [*VERDICTS, *codes, *operations], n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else " Run 'fusegen rule' for the list of codes."
    raise UnknownTerm(f"{word!r} is no verdict, reason code or operation.{hint}")
