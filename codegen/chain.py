"""Peel what stands between head and loss off the logits that a loss reads, one operation at a time.

    Binary("*", tanh(Binary("/", lm_head(h), cap)), cap)   ->   Chain(steps=(soft_cap,), head=lm_head(h))

A branch is followed where the source shows what it means: an operation that runs under a condition, rows
chosen one way or the other, or a head that is there only for some configurations (then the condition
becomes a guard). Everything else is a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fusegen.codegen.expressions import item_at
from fusegen.codegen.logit_ops import LOGIT_OPS
from fusegen.codegen.logit_ops.step import Refusal, Step
from fusegen.codegen.reading import HeadRead, Reading, is_static
from fusegen.codegen.values import (
    Attr,
    Call,
    Const,
    Global,
    Index,
    Logic,
    Opaque,
    Param,
    Select,
    Store,
    Value,
    describe,
    is_none,
    is_unbound,
    negate,
)


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps from the loss down to the head (outermost first), the head, the way between, and conditions.

    `trail` holds every value on the way, logits first, the head's product last; `also` those of a branch that
    does the same or less; `outer` is the call that the function itself makes for the head (`self.cls(h)` where
    the linear is `self.cls.decoder`).
    """

    steps: tuple[Step, ...]
    head: HeadRead
    trail: tuple[Value, ...]
    guards: tuple[Value, ...] = ()
    outer: Value | None = None
    also: frozenset[Value] = frozenset()


def peel(value: Value, reading: Reading, assumed: frozenset[Value] = frozenset(), depth: int = 0) -> Chain | Refusal:
    """The chain between `value` and its head. `assumed` are conditions known to hold where the loss is computed."""
    if depth > 60:
        return Refusal("FG204", value.node, "the logits go through more operations than are followed")
    head = reading.head(value)
    if head is not None:
        return Chain((), head, (value,))
    if isinstance(value, Select):
        return _branches(value, reading, assumed, depth)
    for read in LOGIT_OPS:
        step = read(value, reading)
        if isinstance(step, Refusal):
            return step
        if step is not None:
            return _extend(peel(step.inner, reading, assumed, depth + 1), value, step)
    inner = _look_through(value, reading)
    if inner is not None:
        chain = peel(inner, reading, assumed, depth + 1)
        if isinstance(chain, Chain):
            outer = value if _makes_head(value, inner, reading) else chain.outer
            return replace(chain, trail=(value, *chain.trail), outer=outer)
        return chain
    return _refuse(value, reading)


def _extend(chain: Chain | Refusal, value: Value, step: Step) -> Chain | Refusal:
    if isinstance(chain, Refusal):
        return chain
    return replace(chain, steps=(step, *chain.steps), trail=(value, *chain.trail))


def _look_through(value: Value, reading: Reading) -> Value | None:
    """What is behind a call into this file, or behind one item of the tuple that such a call returns."""
    match value:
        case Call():
            return reading.inside(value)
        case Index(Call() as call, position):
            result = reading.inside(call)
            return item_at(result, position) if result is not None else None
    return None


def _makes_head(value: Value, inner: Value, reading: Reading) -> bool:
    """Whether the head's product is made inside this call (not handed to it)."""
    call = value.base if isinstance(value, Index) else value
    assert isinstance(call, Call)
    return inner not in call.args and not any(
        reading.has_head(argument) for argument in (*call.args, *(item for _, item in call.keywords))
    )


# -- branches ------------------------------------------------------------------------------------------------


def _branches(value: Select, reading: Reading, assumed: frozenset[Value], depth: int) -> Chain | Refusal:
    test, opposite = value.test, negate(value.test)
    for taken, left, condition in ((value.then, value.other, test), (value.other, value.then, opposite)):
        if condition in assumed:
            return _pass(value, peel(taken, reading, assumed, depth + 1))
        if is_none(left) or is_unbound(left):
            return _pass(value, _where(condition, peel(taken, reading, assumed, depth + 1)))
    then = peel(value.then, reading, assumed | {test}, depth + 1)
    other = peel(value.other, reading, assumed | {opposite}, depth + 1)
    if isinstance(then, Chain) and isinstance(other, Chain):
        return _pass(value, _merge(value, then, other))
    if isinstance(then, Refusal) and isinstance(other, Refusal):
        return then
    chain, condition, refusal = (then, test, other) if isinstance(then, Chain) else (other, opposite, then)
    assert isinstance(chain, Chain)
    assert isinstance(refusal, Refusal)
    if not _checkable(condition, chain):
        return refusal
    return _pass(value, replace(chain, guards=(condition, *chain.guards)))


def _where(condition: Value, chain: Chain | Refusal) -> Chain | Refusal:
    """A chain whose logits are there only where a condition holds: the original raises where it does not."""
    if isinstance(chain, Refusal):
        return chain
    if not _checkable(condition, chain):
        return Refusal("FG204", condition.node, f"there are logits only where `{describe(condition)}`")
    return replace(chain, guards=(condition, *chain.guards))


def _pass(value: Value, chain: Chain | Refusal) -> Chain | Refusal:
    return replace(chain, trail=(value, *chain.trail)) if isinstance(chain, Chain) else chain


def _merge(value: Select, then: Chain, other: Chain) -> Chain | Refusal:
    test, opposite = value.test, negate(value.test)
    for longer, shorter, condition in ((then, other, test), (other, then, opposite)):
        joint = _bare(shorter)
        if joint in longer.trail:
            position = longer.trail.index(joint)
            above = tuple(step for step in longer.steps if longer.trail.index(step.inner) <= position)
            below = longer.steps[len(above) :]
            guards = (*shorter.guards, *longer.guards)
            also = longer.also | shorter.also | frozenset(shorter.trail)
            return replace(longer, steps=(*_under(above, condition), *below), guards=guards, also=also)
    if then.head.value == other.head.value or (
        then.head.linear == other.head.linear and not then.steps and not other.steps
    ):
        if then.head.hidden != other.head.hidden:
            if is_static(test):
                return replace(then, guards=(test, *then.guards))
            return Refusal("FG105", value.node, f"`{describe(test)}` chooses between two inputs of the head")
        if _names(then.steps) == _names(other.steps) and then.guards == other.guards:
            return replace(then, also=then.also | other.also | frozenset(other.trail))
        common = _common_tail(then.steps, other.steps)
        first, second = then.steps[: len(then.steps) - common], other.steps[: len(other.steps) - common]
        if all(step.rows or not step.op for step in (*first, *second)):
            tail = then.steps[len(then.steps) - common :]
            also = then.also | other.also | frozenset(other.trail)
            steps = (*_under(first, test), *_under(second, opposite), *tail)
            return replace(then, steps=steps, guards=(*other.guards, *then.guards), also=also)
        return Refusal("FG205", value.node, f"the logits differ by whether `{describe(test)}`")
    if is_static(test):
        return replace(then, guards=(test, *then.guards))
    return Refusal("FG105", value.node, f"`{describe(test)}` chooses between two heads")


def _bare(chain: Chain) -> Value:
    """The value below the copies and moves at the top of a chain."""
    position = 0
    for step in chain.steps:
        if step.op or step.rows:
            break
        position = chain.trail.index(step.inner)
    return chain.trail[position]


def _under(steps: tuple[Step, ...], condition: Value) -> tuple[Step, ...]:
    return tuple(
        step
        if not step.op
        else replace(step, when=condition if step.when is None else Logic("and", (condition, step.when)))
        for step in steps
    )


def _names(steps: tuple[Step, ...]) -> list[tuple[str, tuple[tuple[str, Value], ...]]]:
    return [(step.op, step.arguments) for step in steps if step.op]


def _common_tail(first: tuple[Step, ...], second: tuple[Step, ...]) -> int:
    count = 0
    for one, two in zip(reversed(first), reversed(second), strict=False):
        if (one.op, one.arguments, one.inner) != (two.op, two.arguments, two.inner):
            break
        count += 1
    return count


def _checkable(condition: Value, chain: Chain) -> bool:
    """A guard may read shapes of the logits but never their entries."""
    return is_static(without_metadata(condition, chain.trail[-1]))


def without_metadata(value: Value, logits: Value) -> Value:
    """`value` with shapes, sizes, devices and dtypes of anything replaced by a constant."""
    match value:
        case Attr(_, "shape" | "device" | "dtype" | "ndim") | Call(Attr(_, "size" | "dim")):
            return Const(0)
        case Index(base, Const()) if without_metadata(base, logits) == Const(0):
            return Const(0)
        case Logic(op, items):
            return Logic(op, tuple(without_metadata(item, logits) for item in items))
    names: tuple[str, ...] = type(value).__match_args__
    fields: dict[str, Any] = {
        name: without_metadata(part, logits) for name in names if isinstance(part := getattr(value, name), Value)
    }
    return replace(value, **fields, _digest=None) if fields else value


# -- refusals ------------------------------------------------------------------------------------------------


def _refuse(value: Value, reading: Reading) -> Refusal:
    match value:
        case Index(base, _) | Call(Attr(base, "contiguous" | "view" | "reshape" | "transpose" | "squeeze"), _) if (
            not isinstance(base, Call) or (isinstance(base.func, Global))
        ):
            return _refuse(base, reading)
        case Opaque(why):
            code = "FG203" if "in place" in why or "changed" in why else "FG204"
            return Refusal(code, value.node, f"the logits are {why}")
        case Store():
            return Refusal("FG203", value.node, f"`[{describe(value.index)}]` of the logits is overwritten")
        case Param(name):
            return Refusal("FG206", value.node, f"`{name}` is an argument of this function")
        case Attr(Call(Attr() as place), "logits") | Index(Call(Attr() as place), Const(0)):
            return Refusal("FG102", value.node, f"the logits are an output of `{describe(place)}`")
        case Call(Attr() as place) if reading.owner is not None and reading.scope.at(reading.owner, place):
            return Refusal("FG101", value.node, f"`{describe(place)}` is not shown to end in one linear")
        case Call(Global("torch.nn.functional.linear"), (_, weight, *_)):
            return Refusal("FG101", value.node, f"its weight is `{describe(weight)}`, no parameter of the head")
        case Call(Global("torch.stack")):
            return Refusal("FG103", value.node, f"`{describe(value)}`")
        case Call(Global("torch.matmul"), (_, matrix)):
            if reading.holds_stack(matrix):
                return Refusal("FG103", value.node, f"`{describe(matrix)}`")
            return Refusal("FG101", value.node, f"`{describe(value)}` is no product with one weight matrix")
        case Call(Global(path)) if reading.has_head(value):
            return Refusal("FG201", value.node, f"`{path.lstrip('.')}` on the logits")
        case Call(Attr(base, name)) if reading.has_head(base):
            return Refusal("FG201", value.node, f"`.{name}(…)` on the logits")
    if reading.has_head(value):
        return Refusal("FG201", value.node, f"`{describe(value)}`")
    if isinstance(value, Call):
        return Refusal("FG101", value.node, f"`{describe(value.func)}` is not known to be a linear")
    return Refusal("FG206", value.node, f"`{describe(value)}` does not lead to a head")
