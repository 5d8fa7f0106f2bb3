"""`cap * tanh(logits / cap)`: logits bounded smoothly (Gemma 2, arXiv:2408.00118)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fusegen.kernels.operator import Operator, Tensors


@dataclass(frozen=True, eq=False)
class SoftCap(Operator, name="soft_cap"):
    """Logits `(..., V)` bounded by `cap`."""

    cap: float

    @staticmethod
    def forward_compute(logits: Tensor, cap: float) -> tuple[Tensors, Tensors]:
        return (torch.tanh(logits / cap) * cap,), ()

    @staticmethod
    def save_context(ctx: Any, inputs: tuple[Any, ...], saved: Tensors) -> None:
        logits, ctx.cap = inputs
        ctx.save_for_backward(logits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensors:
        (logits,) = ctx.saved_tensors
        return (gradient * (1 - torch.tanh(logits / ctx.cap).square()),)
