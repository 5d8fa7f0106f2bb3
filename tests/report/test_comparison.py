"""Two texts beside each other: which lines are new, gone, or the same one level deeper."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fusegen.codegen.report.comparison import Comparison, compare

LINES = st.lists(st.sampled_from(["", "a", "    a", "b", "    b", ")", "        )"]), max_size=12)


def sides(compared: Comparison, original: list[str], patched: list[str]) -> tuple[list[str], list[str]]:
    """Both texts, put together again from a comparison."""
    old = [original[at] for at, _ in compared.rows if at is not None]
    new = [patched[at] for _, at in compared.rows if at is not None]
    head, tail = original[: compared.before], original[len(original) - compared.after :]
    return head + old + tail, head + new + tail


@given(LINES, LINES)
def test_a_comparison_loses_no_line_of_either_side(original: list[str], patched: list[str]) -> None:
    compared = compare(original, patched)
    assert sides(compared, original, patched) == (original, patched)
    for old, new in compared.rows:
        if old is not None and new is not None:
            assert original[old].strip() == patched[new].strip()


def test_statements_that_moved_into_an_else_are_the_same_lines() -> None:
    original = ["def f():", "    x = head(h)", "", "    loss = ce(x)", "    return loss"]
    patched = [
        "def f():",
        "    if fusible():",
        "        loss = fused(h)",
        "    else:",
        "        x = head(h)",
        "",
        "        loss = ce(x)",
        "    return loss",
    ]
    compared = compare(original, patched)
    assert (compared.before, compared.after) == (1, 1)
    assert compared.rows == ((None, 1), (None, 2), (None, 3), (1, 4), (2, 5), (3, 6))


def test_equal_texts_have_no_rows() -> None:
    assert compare(["a", "b"], ["a", "b"]) == Comparison(2, 0, ())


def test_a_line_that_changed_stands_on_both_sides() -> None:
    assert compare(["a", "b", "c"], ["a", "x", "c"]).rows == ((1, None), (None, 1))
