"""`logits[:, :, columns] = -inf`: recovered and refused, since the kernel has no mask over columns."""

from __future__ import annotations

from fusegen.codegen.logit_ops.step import Kinds, Refusal, Step
from fusegen.codegen.values import Attr, Call, Store, Value


def read(value: Value, kinds: Kinds) -> Step | Refusal | None:
    match value:
        case Store(logits, index, stored):
            return Step("mask", logits, (("columns", index), ("value", stored)), value.node)
        case Call(Attr(logits, "masked_fill"), (mask, stored), ()):
            return Step("mask", logits, (("where", mask), ("value", stored)), value.node)
    return None
