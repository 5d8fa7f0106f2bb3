"""A generated function runs under the decorators of its original, as they are; where that cannot be, it is refused."""

from __future__ import annotations

import functools

import pytest

pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")

from fusegen.runtime.stand_in import CannotStandIn, in_place_of

KEPT = []
CALLS = []


def counting(function):
    CALLS.append("decorated")

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        CALLS.append("called")
        return function(*args, **kwargs)

    return wrapper


def keeping(function):
    KEPT.append(function)

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return KEPT[-1](*args, **kwargs)

    return wrapper


class Original:
    @counting
    def counted(self):
        return "original"

    @keeping
    def kept(self):
        return "original"


def generated(self):
    return "generated"


def other(self, more):
    return more


def test_a_decorator_is_applied_once_and_keeps_its_state() -> None:
    CALLS[:] = ["decorated"]
    function = in_place_of(vars(Original)["counted"], Original, generated)
    assert function(Original()) == "generated"
    assert Original().counted() == "original"
    assert CALLS == ["decorated", "called", "called"]


def test_a_decorator_that_holds_on_to_the_original_is_refused() -> None:
    with pytest.raises(CannotStandIn, match="a decorator holds on to it"):
        in_place_of(vars(Original)["kept"], Original, generated)


def test_other_parameters_are_refused() -> None:
    with pytest.raises(CannotStandIn, match="its parameters"):
        in_place_of(vars(Original)["counted"], Original, other)
