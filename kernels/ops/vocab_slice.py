"""`logits[..., :columns]`: only the first columns of a padded vocabulary count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from fusegen.kernels.operator import Operator, Tensors


@dataclass(frozen=True, eq=False)
class VocabSlice(Operator, name="vocab_slice"):
    """The first `columns` of logits `(..., V)`, 1 to V; a copy."""

    columns: int

    @staticmethod
    def forward_compute(logits: Tensor, columns: int) -> tuple[Tensors, Tensors]:
        return (logits[..., :columns].clone(),), ()

    @staticmethod
    def save_context(ctx: Any, inputs: tuple[Any, ...], saved: Tensors) -> None:
        logits, columns = inputs
        ctx.dropped = logits.shape[-1] - columns

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensors:
        return (F.pad(gradient, (0, ctx.dropped)),)
