"""`logits + add`: one number per vocabulary row, added after the head (`final_logits_bias` of BART)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fusegen.kernels.operator import Operator, Tensors


@dataclass(frozen=True, eq=False)
class Bias(Operator, name="bias"):
    """Logits `(..., V)` plus `add`, `(V,)` or `(1, V)`; the dtype is what torch's promotion gives."""

    add: Tensor

    @staticmethod
    def forward_compute(logits: Tensor, add: Tensor) -> tuple[Tensors, Tensors]:
        return (logits + add,), ()

    @staticmethod
    def save_context(ctx: Any, inputs: tuple[Any, ...], saved: Tensors) -> None:
        logits, add = inputs
        ctx.dtypes, ctx.shape = (logits.dtype, add.dtype), add.shape

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensors:
        for_logits, for_add = ctx.needs_input_grad
        return (
            gradient.to(ctx.dtypes[0], copy=True) if for_logits else None,
            gradient.sum_to_size(ctx.shape).to(ctx.dtypes[1]) if for_add else None,
        )
