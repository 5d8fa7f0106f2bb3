"""Positions left out after the head: `logits[..., :-1, :]`, `logits[:, -labels.size(1):, :]`, `logits[mask]`."""

from __future__ import annotations

from fusegen.codegen.logit_ops.step import Kinds, Refusal, Step
from fusegen.codegen.values import (
    NONE,
    Attr,
    Call,
    Const,
    Index,
    Logic,
    Opaque,
    Sequence,
    Slice,
    Starred,
    Unary,
    Value,
    describe,
)


def read(value: Value, kinds: Kinds) -> Step | Refusal | None:
    match value:
        case Index(logits, index):
            positions = _positions(index)
            if positions is not None:
                return Step("token_select", logits, (("positions", positions),), value.node, rows=True)
            if kinds.has_head(logits):
                return Refusal("FG201", value.node, f"`[{describe(index)}]` may cut more than positions")
    return None


def _positions(index: Value) -> Value | None:
    match index:
        case Sequence("tuple", (Const(), Slice() as cut, Slice(None, None, None))) if index.items[0] == Const(Ellipsis):
            return cut
        case Sequence("tuple", (Slice(None, None, None), Slice() as cut, Slice(None, None, None))):
            return cut
        case Sequence("tuple", (Slice(None, None, None), Slice() as cut)) if _is_shift_or_tail(cut):
            return cut
        case Sequence("tuple", (mask, Slice(None, None, None))) if _is_mask(mask):
            return mask
    return index if _is_mask(index) else None


def _is_shift_or_tail(cut: Slice) -> bool:
    """`[:, :-1]` and `[:, -labels.size(1):]`, which make no sense over a vocabulary."""
    if cut.step is not None:
        return False
    drops_last = cut.upper == Const(-1) and cut.lower in (None, Const(0))
    tail = (
        cut.upper is None and isinstance(cut.lower, Unary) and cut.lower.op == "-" and "labels" in describe(cut.lower)
    )
    return drops_last or tail


def _is_mask(index: Value) -> bool:
    """Something that chooses rows: a tensor, not a position, a slice or a new axis."""
    match index:
        case Const() | Slice() | Sequence() | Starred() | Opaque() | Logic():
            return False
        case Call(Attr(_, name)) if name in ("size", "dim", "item", "numel"):
            return False
        case Attr(_, "shape" | "ndim"):
            return False
    return index != NONE
