"""Statements that choose rows of logits, written on hidden states: what is rewritten, and what must refuse."""

from __future__ import annotations

import pytest

from fusegen.codegen.operands import Unwritable
from fusegen.codegen.rows import on_hidden_states


def rewritten(*statements: str, taken: frozenset[str] = frozenset()) -> str:
    names = {"logits": "hidden"}
    return "\n".join(on_hidden_states(statement, names, set(taken)) for statement in statements)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("shift_logits = logits[..., :-1, :]", "shift_hidden_states = hidden[..., :-1, :]"),
        ("shifted_prediction_scores = logits[mask].contiguous()", "shifted_hidden_states = hidden[mask].contiguous()"),
        ("rows = logits[:, :-1][mask]", "rows_hidden_states = hidden[:, :-1][mask]"),
        (
            "mask = mask[:, -logits.shape[1] :].to(logits.device)",
            "mask = mask[:, -hidden.shape[1] :].to(hidden.device)",
        ),
        ("count = logits.size(0)", "count = hidden.size(0)"),
        (
            "if mask is None:\n    # all\n    scores = logits\nelse:\n    scores = logits[mask]",
            "if mask is None:\n    # all\n    hidden_states = hidden\nelse:\n    hidden_states = hidden[mask]",
        ),
        ("größe = logits[:, über:]", "größe_hidden_states = hidden[:, über:]"),
    ],
)
def test_rows_are_those_of_the_hidden_states(before: str, after: str) -> None:
    assert rewritten(before) == after


def test_a_name_that_was_given_is_used_from_then_on() -> None:
    assert rewritten("shift_logits = logits[:-1]", "shift_logits = shift_logits[mask]") == (
        "shift_hidden_states = hidden[:-1]\nshift_hidden_states = shift_hidden_states[mask]"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "width = logits.shape[-1]",
        "width = logits.shape[2]",
        "width = logits.size(-1)",
        "dtype = logits.dtype",
        "best = logits.argmax(-1)",
        "shift_logits = logits[logits.max(-1).values > 0]",
        "shift_logits = logits.view(-1, 64)",
        "shift_logits = logits[:-1].float()",
        "if logits.any():\n    shift_logits = logits[:-1]",
        "for part in logits:\n    shift_logits = part",
        "shift_logits, rest = logits[:-1], logits[-1:]",
        # One name for logits in one branch and for something else in the other.
        "if mask is None:\n    kept = logits[:-1]\nelse:\n    kept = mask",
        "if mask is None:\n    kept = mask\nelse:\n    kept = logits[:-1]",
    ],
)
def test_what_reads_more_than_rows_refuses(statement: str) -> None:
    with pytest.raises(Unwritable):
        rewritten(statement)


def test_a_name_that_is_taken_refuses() -> None:
    with pytest.raises(Unwritable, match="shift_hidden_states"):
        rewritten("shift_logits = logits[:-1]", taken=frozenset({"shift_hidden_states"}))
