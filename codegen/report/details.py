"""What the HTML report holds of each site until its row is opened, as JSON.

A line of source is held once, however many forwards it stands in, and a generated forward is held as its
difference from the original: a whole release, most forwards of it twice, stays far below what a phone loads at ease.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from fusegen.codegen.reasons import REASONS
from fusegen.codegen.report.comparison import compare
from fusegen.codegen.report.page import Excerpt, SitePage
from fusegen.codegen.report.site import facts, marks
from fusegen.codegen.report.wording import place
from fusegen.codegen.visible import json_text

JsonObject = dict[str, Any]


def details(pages: Sequence[SitePage]) -> str:
    """`{"lines": [...], "sites": [...]}`, the sites in the order given; safe inside a script element of HTML."""
    lines = _Lines()
    sites = [_details(page, lines) for page in pages]
    text = json.dumps({"lines": list(lines.numbers), "sites": sites}, ensure_ascii=False, separators=(",", ":"))
    return json_text(text).replace("<", "\\u003c")


class _Lines:
    """Every different line once, by its number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, line: str) -> int:
        return self.numbers.setdefault(line, len(self.numbers))


def _details(page: SitePage, lines: _Lines) -> JsonObject:
    site = page.site
    marked = marks(site)
    if page.refusal:
        marked.setdefault(page.refusal.line, []).append(page.refusal.code)
    found: JsonObject = {"place": place(site), "facts": [*_facts(page)], "marks": marked}
    if page.original:
        found["original"] = _excerpt(page.original, lines)
    if page.original and page.patched:
        found["patched"] = _patched(page.original, page.patched, lines)
    if page.elsewhere:
        found["elsewhere"] = [_excerpt(each, lines) for each in page.elsewhere]
    if wrong := page.refusal.line if page.refusal else site.at_line:
        found["wrong"] = wrong
    return found


def _facts(page: SitePage) -> Iterator[tuple[str, str]]:
    if page.refusal and page.refusal.code in REASONS:
        yield "would help", REASONS[page.refusal.code].remedy
    # What is refused, and why, stands in the row itself.
    yield from (fact for fact in facts(page.site) if fact[0] != "refused")


def _excerpt(excerpt: Excerpt, lines: _Lines) -> JsonObject:
    return {"path": excerpt.path, "line": excerpt.line, "text": [lines(line) for line in excerpt.text.split("\n")]}


def _patched(original: Excerpt, patched: Excerpt, lines: _Lines) -> JsonObject:
    """`before` equal lines, then `rows`: the position in the original and the number of the line, -1 for none."""
    new = patched.text.split("\n")
    compared = compare(original.text.split("\n"), new)
    rows = [(-1 if at is None else at, -1 if new_at is None else lines(new[new_at])) for at, new_at in compared.rows]
    return {"path": patched.path, "line": patched.line, "before": compared.before, "rows": rows}
