"""Which sites a command is about, and which of them make a run fail.

A term is a verdict (`match`, `reject`, `delegated`), `unmatched` (either of the last two), a reason code or
the beginning of one (`FG203`, `FG2`), an operation of the chain (`soft_cap`), a model folder (`gemma*`), or
the name of a class (`Gemma2ForCausalLM`, `*ForMaskedLM`: it has an upper-case letter).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from fusegen.codegen.records import DELEGATED, MATCH, REJECT, FileReport, ScanReport, Site

UNMATCHED = "unmatched"

# What --fail-on also takes: a file that could not be read.
NOT_READ = "not-read"
VERDICTS = (MATCH, REJECT, DELEGATED, UNMATCHED)

_CODE = re.compile(r"FG\d*", re.IGNORECASE)


class UnknownTerm(ValueError):
    """A term that names nothing; says what comes close."""


@dataclass(frozen=True)
class Terms:
    """A parsed list of terms. A site matches if any of them does."""

    words: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls, words: Iterable[str], codes: Iterable[str], operations: Iterable[str], models: Iterable[str]
    ) -> Terms:
        """The terms in `words`. Raises `UnknownTerm` for one that could never match; see `check` for classes."""
        codes, operations, models = tuple(codes), tuple(operations), tuple(models)
        return cls(tuple(_known(word.strip(), codes, operations, models) for word in words if word.strip()))

    def __bool__(self) -> bool:
        return bool(self.words)

    def match(self, site: Site, code: str | None = None) -> bool:
        """Whether any term names the site. `code` is that of a match which is not emitted."""
        operations = {step.op for loss in site.losses for step in loss.chain}
        return any(
            word == site.verdict
            or (word == UNMATCHED and site.verdict != MATCH)
            or (word.startswith("FG") and (site.code or code or "").startswith(word))
            or word in operations
            or fnmatchcase(site.class_name if _is_class(word) else site.model, word)
            for word in self.words
        )

    def check(self, report: ScanReport) -> None:
        """Raises `UnknownTerm` for the name of a class that has no site in `report`."""
        classes = {site.class_name for site in report.sites}
        for word in filter(_is_class, self.words):
            if not any(fnmatchcase(name, word) for name in classes):
                raise UnknownTerm(f"no class with a site is named {word!r}.{close_names(word, classes)}")


@dataclass(frozen=True)
class Selection:
    """The sites that `select` names (all, if it is empty) and `ignore` does not."""

    select: Terms = Terms()
    ignore: Terms = Terms()

    def __bool__(self) -> bool:
        return bool(self.select or self.ignore)

    def to_json(self) -> dict[str, list[str]]:
        """The words of each list that is not empty."""
        lists = {"select": self.select, "ignore": self.ignore}
        return {name: list(terms.words) for name, terms in lists.items() if terms}

    def holds(self, site: Site, code: str | None = None) -> bool:
        """Whether a site is one of them; `code` as for `Terms.match`."""
        return (not self.select or self.select.match(site, code)) and not self.ignore.match(site, code)

    def check(self, report: ScanReport) -> None:
        """`Terms.check` of both lists."""
        self.select.check(report)
        self.ignore.check(report)

    def narrow(self, report: ScanReport) -> ScanReport:
        """`report` with these sites only."""
        if not self:
            return report
        files = tuple(self.narrow_file(file, {}) for file in report.files)
        return replace(report, files=files, complete=False)

    def narrow_file(self, file: FileReport, codes: dict[str, str]) -> FileReport:
        """A file's report with these sites only; `codes` says by its id why a match is not emitted."""
        shown = tuple(site for site in file.sites if self.holds(site, codes.get(site.id)))
        return replace(file, sites=shown, hidden=file.hidden + len(file.sites) - len(shown))


def known_operations() -> tuple[str, ...]:
    """The operations that a chain can have: each file of codegen/logit_ops is named after its operation."""
    from fusegen.codegen.logit_ops import LOGIT_OPS

    return tuple(read.__module__.rpartition(".")[2] for read in LOGIT_OPS)


def _is_class(word: str) -> bool:
    return not word.startswith("FG") and any(letter.isupper() for letter in word)


def _known(word: str, codes: tuple[str, ...], operations: tuple[str, ...], models: tuple[str, ...]) -> str:
    if _CODE.fullmatch(word):
        word = word.upper()
        if any(code.startswith(word) for code in codes):
            return word
    elif word in VERDICTS or word in operations or _is_class(word) or any(fnmatchcase(name, word) for name in models):
        return word
    hint = close_names(word, [*VERDICTS, *codes, *operations, *models]) or " Run 'fusegen rule' for the list of codes."
    raise UnknownTerm(f"{word!r} is no verdict, reason code, operation, model or class.{hint}")


def close_names(word: str, names: Iterable[str]) -> str:
    """What a message says of names that are nearly `word`, with a space before it; nothing without any."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(names), n=3)
    return f" Did you mean {' or '.join(close)}?" if close else ""
