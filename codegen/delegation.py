"""Labels that are handed on: the call of an inner module that computes the loss instead."""

from __future__ import annotations

from fusegen.codegen.bindings import Trace
from fusegen.codegen.labels import are_labels
from fusegen.codegen.reading import Reading
from fusegen.codegen.values import Attr, Call, Const, Global, Index, Param, Select, Self, Value, is_none
from fusegen.codegen.vocabulary import CLASSIFIER


def delegation(walked: Trace, reading: Reading) -> Call | None:
    """A call of an inner module that gets labels and whose loss (or first result) is used."""
    found = _inner(walked, reading)
    # A method of the class that prepares labels for `super().forward` computes no loss.
    return (_of_the_base(walked) or found) if found is not None else None


def _of_the_base(walked: Trace) -> Call | None:
    """The call of the base's forward that gets labels and whose result is returned."""
    returned = [sink.value for sink in walked.sinks if sink.kind == "return"]
    for record in walked.calls:
        match record.call:
            case Call(Attr(Call(Global("super")), "forward")) as call if call in returned and _hands_labels(call):
                return call
    return None


def _hands_labels(call: Call) -> bool:
    """Whether a call gets labels by that name, or what starts as labels."""
    named = any(name in ("labels", "lm_labels") and not is_none(value) for name, value in call.keywords)
    return named or any(map(are_labels, call.args))


def _inner(walked: Trace, reading: Reading) -> Call | None:
    for record in walked.calls:
        call = record.call
        place = call.func
        while isinstance(place, Attr | Index):
            place = place.base
        if not isinstance(call.func, Attr | Index) or place != Self() or not _gets_labels(call):
            continue
        owner = reading.owner or ""
        own_method = (
            call.func.base == Self() and reading.scope.index.method(owner, call.func.name) is not None
            if isinstance(call.func, Attr)
            else False
        )
        if call.func == Attr(Self(), "loss_function") or (
            own_method and (not _names_a_loss(call.func) or CLASSIFIER.search(owner))
        ):
            continue
        used = {Attr(call, "loss"), Index(call, Const(0)), Attr(call, "lm_loss"), *((call,) if own_method else ())}
        returned = [sink.value for sink in walked.sinks if sink.kind == "return"]
        if any(value == call or _contains(value, used, call) for value in returned):
            return call
    return None


def _names_a_loss(function: Value) -> bool:
    return isinstance(function, Attr) and ("loss" in function.name or "nll" in function.name)


def _gets_labels(call: Call) -> bool:
    named = any(name in ("labels", "lm_labels") and not is_none(value) for name, value in call.keywords)
    return named or any(_may_be_labels(argument) for argument in call.args)


def _may_be_labels(value: Value) -> bool:
    match value:
        case Param(name):
            return name == "labels"
        case Select(_, then, other):
            return _may_be_labels(then) or _may_be_labels(other)
    return False


def _contains(value: Value, wanted: set[Value], call: Call) -> bool:
    seen: set[int] = set()

    def search(part: Value) -> bool:
        if id(part) in seen:
            return False
        seen.add(id(part))
        if part in wanted:
            return True
        return part != call and any(search(child) for child in part.children())

    return search(value)
