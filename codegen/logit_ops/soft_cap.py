"""`cap * tanh(logits / cap)`, as in Gemma 2: both operands must be the same value."""

from __future__ import annotations

from fusegen.codegen.logit_ops.step import Kinds, Refusal, Step
from fusegen.codegen.values import Attr, Binary, Call, Global, Value


def read(value: Value, kinds: Kinds) -> Step | Refusal | None:
    match value:
        case Binary("*", left, right):
            for bounded, cap in ((left, right), (right, left)):
                match tanh_operand(bounded):
                    case Binary("/", logits, divisor) if divisor == cap and kinds.is_scalar(cap):
                        return Step("soft_cap", logits, (("cap", cap),), value.node)
    return None


def tanh_operand(value: Value) -> Value | None:
    """`x` of `torch.tanh(x)`, `x.tanh()`, `nn.functional.tanh(x)` or `nn.Tanh()(x)`."""
    match value:
        case Call(Global("torch.tanh" | "torch.nn.functional.tanh"), (operand,), ()):
            return operand
        case Call(Call(Global("torch.nn.Tanh"), (), ()), (operand,), ()):
            return operand
        case Call(Attr(operand, "tanh"), (), ()):
            return operand
    return None
