"""Copies and views that change no entry: `.contiguous()`, `.view(-1, vocab_size)`, `.reshape(-1, n)`, `.clone()`."""

from __future__ import annotations

from fusegen.codegen.logit_ops.step import Kinds, Refusal, Step
from fusegen.codegen.values import Attr, Binary, Call, Const, Global, Logic, Sequence, Unary, Value, describe


def read(value: Value, kinds: Kinds) -> Step | Refusal | None:
    match value:
        case Call(Attr(logits, "contiguous" | "clone"), (), ()):
            return Step("", logits, (), value.node)
        case Call(Attr(logits, "view" | "reshape"), arguments, ()) | Call(
            Global("torch.reshape"), (logits, *arguments), ()
        ):
            shape = (
                arguments[0].items if len(arguments) == 1 and isinstance(arguments[0], Sequence) else tuple(arguments)
            )
            flat = len(shape) == 2 and not isinstance(shape[0], Const)
            rows = len(shape) == 2 and shape[0] == Const(-1) and shape[1] != Const(-1)
            many = len(shape) > 2 and kinds.is_full_width(logits, shape[-1]) and shape.count(Const(-1)) < 2
            if (flat or rows or many) and all(map(_may_be_a_size, shape)):
                return Step("", logits, (), value.node, rows=True, width=shape[-1], flat=len(shape) == 2)
            return _refuse(value, kinds)
        case Call(Attr(logits, "flatten"), (Const(0), Const(1 | -2)), ()):
            return Step("", logits, (), value.node, rows=True, width=Const(-1), flat=True)
        case Call(
            Attr(_, "transpose" | "permute" | "squeeze" | "unsqueeze" | "flatten" | "swapaxes" | "movedim"), _, _
        ):
            return _refuse(value, kinds)
    return None


def _may_be_a_size(value: Value) -> bool:
    """Whether a size may be an integer: a truth value raises."""
    match value:
        case Const(size):
            return type(size) is int
        case (
            Unary("not")
            | Logic()
            | Binary("==" | "!=" | "<" | "<=" | ">" | ">=" | "is" | "is not" | "in" | "not in" | "/")
        ):
            return False
    return True


def _refuse(value: Value, kinds: Kinds) -> Refusal | None:
    if not kinds.has_head(value):
        return None
    return Refusal("FG104", value.node, f"`{describe(value)}` gives the logits another shape than one row per label")
