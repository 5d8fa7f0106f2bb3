"""`logits.to(dtype)`: an operation, since a model may compute the rest in float32 on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fusegen.kernels.operator import Operator, Tensors


@dataclass(frozen=True, eq=False)
class Cast(Operator, name="cast"):
    """Logits `(..., V)` in `dtype`; always a copy."""

    dtype: torch.dtype

    @staticmethod
    def forward_compute(logits: Tensor, dtype: torch.dtype) -> tuple[Tensors, Tensors]:
        return (logits.to(dtype, copy=True),), ()

    @staticmethod
    def save_context(ctx: Any, inputs: tuple[Any, ...], saved: Tensors) -> None:
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensors:
        return (gradient.to(ctx.dtype, copy=True),)
