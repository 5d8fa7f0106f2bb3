"""What counts as a difference: numbers, forms, dtypes, missing gradients, exceptions; and what is rounding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fusegen.verify.cases import Case
from fusegen.verify.comparison import compare, relative_error
from fusegen.verify.records import DIFFERENT, RAISES, SAME
from fusegen.verify.running import Raised, Ran

CASE = Case("some ignored")
NAN = float("nan")


def ran(loss: float = 2.0, form: tuple[str, ...] = ("Output", "loss", "logits", "past"), **gradients: object) -> Ran:
    tensors = {name: None if value is None else torch.tensor(value) for name, value in gradients.items()}
    return Ran(torch.tensor(loss), tensors or {"weight": torch.ones(3)}, form)


ORIGINAL = ran()
FUSED = ran(form=("Output", "loss", "past"))


@pytest.mark.parametrize(
    ("patched", "quantity"),
    [
        (replace(FUSED, loss=torch.tensor(2.0001)), "loss"),
        (replace(FUSED, loss=torch.tensor(NAN)), "loss"),
        (replace(FUSED, loss=torch.tensor(2.0, dtype=torch.bfloat16)), "dtype of the loss"),
        (replace(FUSED, gradients={"weight": torch.tensor([1.0, 1.0, 1.0001])}), "gradient of weight"),
        (replace(FUSED, gradients={"weight": None}), "gradient of weight"),
        (replace(FUSED, gradients={"weight": torch.ones(1, 3)}), "gradient of weight"),
        (replace(FUSED, form=("Output", "past", "loss")), "output"),
        (replace(FUSED, form=("Other", "loss", "past")), "output"),
        (replace(FUSED, form=("Output", "loss")), "output"),
        (replace(FUSED, form=("Output", "loss", "past", "more")), "output"),
    ],
)
def test_is_a_difference(patched: Ran, quantity: str) -> None:
    result = compare(CASE, ORIGINAL, patched, None, fused=True)
    assert (result.outcome, result.quantity) == (DIFFERENT, quantity)
    assert result.original != result.patched


def test_the_last_bit_is_none() -> None:
    patched = replace(FUSED, loss=torch.tensor(2.000001), gradients={"weight": torch.tensor([1.0, 1.0, 1.000001])})
    assert compare(CASE, ORIGINAL, patched, None, fused=True).outcome == SAME


def test_nothing_but_nan_on_both_sides_is_the_same() -> None:
    result = compare(CASE, ran(NAN), ran(NAN, FUSED.form), None, fused=True)
    assert result.outcome == SAME


def test_a_gradient_that_is_rounding_has_no_relative_error() -> None:
    original = ran(weight=[1.0, 1.0], bias=[1e-9, -2e-9])
    patched = ran(form=FUSED.form, weight=[1.0, 1.0], bias=[-3e-9, 1e-9])
    assert compare(CASE, original, patched, None, fused=True).outcome == SAME
    wrong = ran(form=FUSED.form, weight=[1.0, 1.0], bias=[-3e-6, 1e-9])
    assert compare(CASE, original, wrong, None, fused=True).outcome == DIFFERENT


def test_the_originals_own_error_is_allowed_twice() -> None:
    original, truth = ran(weight=[1.0, 1.001]), ran(weight=[1.0, 1.0])
    good, bad = (ran(form=FUSED.form, weight=[1.0, value]) for value in (0.9985, 0.997))
    assert compare(CASE, original, good, truth, fused=True).outcome == SAME
    assert compare(CASE, original, good, None, fused=True).outcome == DIFFERENT
    assert compare(CASE, original, bad, truth, fused=True).outcome == DIFFERENT


def test_a_tuple_keeps_the_place_of_the_logits() -> None:
    original = ran(form=("tuple", "Tensor", "Tensor", "DynamicCache"))
    kept, shorter = (ran(form=("tuple", "Tensor", *rest)) for rest in (("NoneType", "DynamicCache"), ("DynamicCache",)))
    assert compare(CASE, original, kept, None, fused=True).outcome == SAME
    assert compare(CASE, original, shorter, None, fused=True).outcome == DIFFERENT


def test_exceptions_must_be_of_one_type_and_say_the_same() -> None:
    original = Raised("TypeError", "a.b.Loss() got 2 values for <C object at 0x7f01>", "file:1")
    same = replace(original, message="c.d.loss() got 2 values for <C object at 0x7f9a>", place="file:2")
    others = replace(same, type="KeyError"), replace(same, message="c.d.loss() got 3 values for <C object at 0x7f9a>")
    assert compare(CASE, original, same, None, fused=False).outcome == RAISES
    for other in others:
        assert compare(CASE, original, other, None, fused=False).outcome == DIFFERENT
    assert compare(CASE, original, FUSED, None, fused=True).outcome == DIFFERENT
    assert compare(CASE, ORIGINAL, same, None, fused=False).outcome == DIFFERENT


def test_an_error_is_infinite_where_one_side_is_not_finite() -> None:
    assert relative_error(torch.tensor([1.0, NAN]), torch.tensor([1.0, 2.0])) == float("inf")
    assert relative_error(torch.tensor([1.0, NAN]), torch.tensor([1.0, NAN])) == 0.0
    assert relative_error(torch.tensor([1.0]), torch.tensor([0.0])) == float("inf")
