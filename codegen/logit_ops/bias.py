"""`logits + bias` with one entry per vocabulary row, as `final_logits_bias` in Bart."""

from __future__ import annotations

from fusegen.codegen.logit_ops.step import Kinds, Refusal, Step
from fusegen.codegen.values import Attr, Binary, Call, Global, Value, describe


def read(value: Value, kinds: Kinds) -> Step | Refusal | None:
    match value:
        case (
            Binary("+", left, right)
            | Call(Global("torch.add"), (left, right), ())
            | Call(Attr(left, "add"), (right,), ())
        ):
            for logits, bias in ((left, right), (right, left)):
                if kinds.is_vocabulary_bias(bias):
                    return Step("bias", logits, (("add", bias),), value.node)
            if kinds.has_head(value):
                return Refusal(
                    "FG202", value.node, f"`{describe(value)}`: no operand is shown to be a bias over the vocabulary"
                )
    return None
