"""`logits[..., :n]`: only the first n columns of a padded vocabulary count."""

from __future__ import annotations

from fusegen.codegen.logit_ops.step import Kinds, Refusal, Step
from fusegen.codegen.values import Const, Index, Sequence, Slice, Unary, Value


def read(value: Value, kinds: Kinds) -> Step | Refusal | None:
    match value:
        case Index(logits, Sequence("tuple", (*leading, Slice(None, Value() as size, None)))) if _over_columns(leading):
            if isinstance(size, Unary) or (isinstance(size, Const) and isinstance(size.value, int) and size.value < 0):
                return Refusal(
                    "FG201", value.node, "columns are dropped from the end of the vocabulary by a negative index"
                )
            return Step("vocab_slice", logits, (("columns", size),), value.node)
    return None


def _over_columns(leading: list[Value]) -> bool:
    """Whether the slice that follows is over the last of three dimensions (or of any number, after `...`)."""
    everything = Slice(None, None, None)
    return leading == [Const(Ellipsis)] or leading == [everything, everything]
