"""`hidden @ weight.T + bias`: the head."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from fusegen.kernels.operator import Operator, Tensors


@dataclass(frozen=True, eq=False)
class Linear(Operator, name="linear"):
    """Hidden states `(..., H)`, weight `(V, H)`, bias `(V,)` or None, all of one dtype, to logits `(..., V)`."""

    weight: Tensor
    bias: Tensor | None = None

    lowered = ("hidden", "weight", "bias")

    @staticmethod
    def forward_compute(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensors, Tensors]:
        return (F.linear(hidden, weight, bias),), ()

    @staticmethod
    def save_context(ctx: Any, inputs: tuple[Any, ...], saved: Tensors) -> None:
        hidden, weight, _ = inputs
        ctx.save_for_backward(hidden, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensors:
        hidden, weight = ctx.saved_tensors
        for_hidden, for_weight, for_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            gradient @ weight if for_hidden else None,
            rows.T @ hidden.reshape(-1, hidden.shape[-1]) if for_weight else None,
            rows.sum(0) if for_bias else None,
        )

    @staticmethod
    def flops(hidden: Any, weight: Any, bias: Any) -> int:
        return 2 * prod(hidden) * weight[0]
