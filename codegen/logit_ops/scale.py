"""`logits * scale` and `logits / divisor` by one number, as in Cohere and Granite."""

from __future__ import annotations

from fusegen.codegen.logit_ops.step import Kinds, Refusal, Step
from fusegen.codegen.values import Attr, Binary, Call, Global, Value, describe


def read(value: Value, kinds: Kinds) -> Step | Refusal | None:
    match value:
        case (
            Binary("*", left, right)
            | Call(Global("torch.mul"), (left, right), ())
            | Call(Attr(left, "mul"), (right,), ())
        ):
            for logits, scale in ((left, right), (right, left)):
                if kinds.is_scalar(scale):
                    return Step("scale", logits, (("multiply", scale),), value.node)
            return _refuse(value, kinds)
        case (
            Binary("/", logits, divisor)
            | Call(Global("torch.div"), (logits, divisor), ())
            | Call(Attr(logits, "div"), (divisor,), ())
        ):
            if kinds.is_scalar(divisor):
                return Step("scale", logits, (("divide", divisor),), value.node)
            return _refuse(value, kinds)
    return None


def _refuse(value: Value, kinds: Kinds) -> Refusal | None:
    if kinds.has_head(value):
        return Refusal("FG202", value.node, f"`{describe(value)}`: no operand is shown to be one number")
    return None
