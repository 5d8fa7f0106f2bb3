"""How logits and labels meet: shifted by one, aligned, or shifted beforehand.

The stock causal loss shifts by itself; a forward that shifts and then calls it shifts twice, and that is kept.
For a cross-entropy written by hand both sides are read: which rows of the logits are left out, which of the
labels. Where a branch treats them differently, each way through is read on its own, with the same branch taken
on both sides.
"""

from __future__ import annotations

import itertools

from fusegen.codegen.chain import Chain
from fusegen.codegen.logit_ops.step import Refusal, Step
from fusegen.codegen.losses import Loss
from fusegen.codegen.values import (
    Attr,
    Call,
    Const,
    Index,
    Logic,
    Opaque,
    Param,
    Select,
    Self,
    Sequence,
    Slice,
    Unary,
    Value,
    describe,
    negate,
)

# Methods that move or lay out labels anew, and leave every entry as it is.
KEEPS = frozenset(["to", "contiguous", "view", "reshape", "flatten", "long", "clone", "type", "int", "detach"])


def alignment(loss: Loss, chain: Chain) -> str | Refusal:
    """`shifted`, `aligned`, `preshifted`, `double-shifted` or `flat-shifted`; FG303 if not shown."""
    if loss.preshifted:
        return "preshifted"
    selects = [step for step in chain.steps if step.op == "token_select"]
    if loss.kind == "cross_entropy" and not selects:
        # Every row of the head's product meets the label that the forward puts beside it.
        return _refusal(loss) if _labels_alone_are_cut(loss, chain) else "aligned"
    found = {_one_way(loss, selects, dict(ways)) for ways in _ways(loss, selects)} if selects else {"aligned"}
    if None in found or (loss.kind != "cross_entropy" and len(found) > 1):
        return _refusal(loss)
    by_hand = "shifted" if "shifted" in found else "aligned"
    if loss.kind == "causal":
        if by_hand == "shifted":
            return "double-shifted"
        return "flat-shifted" if _is_flat(loss.labels) else "shifted"
    return by_hand


def _is_flat(labels: Value) -> bool:
    """Labels in one row before the loss shifts them: the last position of a sequence meets the next one's first."""
    match labels:
        case Call(Attr(_, "view" | "reshape"), (Const(-1),)) | Call(Attr(_, "flatten"), ()):
            return True
        case Call(Attr(inner, name)) if name in KEEPS:
            return _is_flat(inner)
    return False


def _labels_alone_are_cut(loss: Loss, chain: Chain) -> bool:
    """Labels without their first, masked or in another order, against hidden states of which nothing was left out."""
    if _is_reordered(loss.labels):
        return True
    cuts = [_label_cut(loss.labels, dict(ways)) for ways in _ways(loss, [])]
    return any(cut == "drop-first" or masks for cut, masks in cuts) and not _is_cut(chain.head.hidden)


def _is_reordered(labels: Value) -> bool:
    match labels:
        case Call(Attr(_, "t" | "transpose" | "permute" | "roll" | "flip" | "swapaxes" | "movedim")) | Attr(
            _, "T" | "mT"
        ):
            return True
        case Call(Attr(base)) | Index(base):
            return _is_reordered(base)
        case Select(_, then, other):
            return _is_reordered(then) or _is_reordered(other)
    return False


def _is_cut(hidden: Value) -> bool:
    """Whether some positions of the hidden states are left out before the head."""
    match hidden:
        case Index(base, Const()):
            return _is_cut(base)
        case Index():
            return True
        case Call(Attr(base) as place, arguments):
            return (
                _is_cut(base)
                or (not isinstance(base, Self) and any(_is_cut(argument) for argument in arguments))
                or place.name == "index_select"
            )
        case Call(_, arguments):
            return any(_is_cut(argument) for argument in arguments)
        case Select(_, then, other):
            return _is_cut(then) or _is_cut(other)
    return False


def _refusal(loss: Loss) -> Refusal:
    return Refusal(
        "FG303", loss.call.node, f"logits `{describe(loss.logits)}` against labels `{describe(loss.labels)}`"
    )


def _ways(loss: Loss, selects: list[Step]) -> list[tuple[tuple[Value, bool], ...]]:
    """Every combination of the conditions under which logits or labels differ."""
    tests: list[Value] = []
    for test in [*_tests(loss.labels), *(item for step in selects if step.when for item in _conditions(step.when))]:
        positive = test.operand if isinstance(test, Unary) and test.op == "not" else test
        if positive not in tests and negate(positive) not in tests:
            tests.append(positive)
    return [tuple(zip(tests, way, strict=True)) for way in itertools.product((True, False), repeat=len(tests[:4]))]


def _tests(value: Value) -> list[Value]:
    if isinstance(value, Select):
        return [value.test, *_tests(value.then), *_tests(value.other)]
    return [test for child in list(value.children())[:1] for test in _tests(child)]


def _conditions(when: Value) -> tuple[Value, ...]:
    return when.items if isinstance(when, Logic) and when.op == "and" else (when,)


def _holds(test: Value, way: dict[Value, bool]) -> bool:
    if test in way:
        return way[test]
    return not way.get(negate(test), False)


def _one_way(loss: Loss, selects: list[Step], way: dict[Value, bool]) -> str | None:
    cuts = [
        _cut(step) for step in selects if step.when is None or all(_holds(test, way) for test in _conditions(step.when))
    ]
    masks = [
        step.arguments[0][1]
        for step in selects
        if _cut(step) == "mask" and (step.when is None or all(_holds(t, way) for t in _conditions(step.when)))
    ]
    labels, label_masks = _label_cut(loss.labels, way)
    if labels is None or any(cut is None for cut in cuts):
        return None
    positions = [cut for cut in cuts if cut != "mask"]
    if len(positions) > 1 or len(masks) > 1 or len(label_masks) > 1:
        return None
    if label_masks and [_placeless(mask) for mask in masks] != [_placeless(mask) for mask in label_masks]:
        return None
    position = positions[0] if positions else "all"
    if masks and not label_masks and (labels != "all" or position != "all"):
        return None
    match position, labels:
        case "all" | "tail", "all":
            return "aligned"
        case "drop-last" | "middle", "drop-first":
            return "shifted"
        case "drop-some", "all":
            return "aligned"
    return None


def _cut(step: Step) -> str | None:
    """What a row selection is: `drop-last` [:-1], `drop-some` [n:], `middle` [n:-1], `tail` [-len(labels):], `mask`."""
    chosen = step.arguments[0][1]
    if not isinstance(chosen, Slice):
        return "mask"
    if chosen.step is not None:
        return None
    match chosen.lower, chosen.upper:
        case ((None | Const(0)), Const(-1)):
            return "drop-last"
        case Unary("-", length), None if "labels" in describe(length):
            return "tail"
        case Const(int(start)), (None | Const(-1)) if start < 0:
            return None
        case ((Attr() | Const()), None):
            return "drop-some"
        case ((Attr() | Const()), Const(-1)):
            return "middle"
    return None


def _label_cut(value: Value, way: dict[Value, bool]) -> tuple[str | None, list[Value]]:
    """(`all` or `drop-first` or None, masks) of a label expression."""
    match value:
        case Select(test, then, other):
            return _label_cut(then if _holds(test, way) else other, way)
        case Param():
            return "all", []
        case Attr(base, _):
            return ("all", []) if not isinstance(base, Opaque) else (None, [])
        case Call(Attr(labels, name), _, _) if name in KEEPS:
            return _label_cut(labels, way)
        case Call(Attr(labels, "masked_fill"), (_, Const(-100)), ()):
            return _label_cut(labels, way)
        case Index(labels, index):
            cut, masks = _label_cut(labels, way)
            if _is_first_dropped(index):
                return ("drop-first" if cut == "all" and not masks else None), masks
            if isinstance(index, Sequence | Slice | Const):
                return None, masks
            return cut, [*masks, index]
        case Call(Attr(Param(), "pop"), _, _):
            return "all", []
    return None, []


def _is_first_dropped(index: Value) -> bool:
    first = Slice(Const(1), None, None)
    return index in (
        Sequence("tuple", (Const(Ellipsis), first)),
        Sequence("tuple", (Slice(None, None, None), first)),
    )


def _placeless(value: Value) -> Value:
    """A mask without the device that it is moved to."""
    from fusegen.codegen.values import Binary

    match value:
        case Call(Attr(inner, "to"), (Attr(_, "device"),), ()):
            return _placeless(inner)
        case Binary(op, left, right):
            return Binary(op, _placeless(left), _placeless(right))
    return value
