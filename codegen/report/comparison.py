"""Two texts of a function beside each other, line by line; a line that only moved in is the same line.

logits = head(x)          if fusible(...):             (None, 0)
                              loss = causal(...)       (None, 1)
                          else:                        (None, 2)
                              logits = head(x)         (0, 3)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

Row = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The first `before` lines and the last `after` lines are equal; `rows` pairs the positions of those between."""

    before: int
    after: int
    rows: tuple[Row, ...]


def compare(original: Sequence[str], patched: Sequence[str]) -> Comparison:
    """Pairs the lines of two texts. A row has None on the side where its line is missing."""
    shorter = min(len(original), len(patched))
    before = next((at for at in range(shorter) if original[at] != patched[at]), shorter)
    rest = shorter - before
    after = next((at for at in range(rest) if original[-1 - at] != patched[-1 - at]), rest)
    old = [line.strip() for line in original[before : len(original) - after]]
    new = [line.strip() for line in patched[before : len(patched) - after]]
    rows: list[Row] = []
    for _, start, stop, new_start, new_stop in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        olds, news = range(before + start, before + stop), range(before + new_start, before + new_stop)
        if old[start:stop] == new[new_start:new_stop]:
            rows += zip(olds, news, strict=True)
        else:
            rows += ((at, None) for at in olds)
            rows += ((None, at) for at in news)
    return Comparison(before, after, tuple(rows))
