"""`torch.nn.functional.cross_entropy` of logits and labels: the loss, with its gradient written out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fusegen.kernels.operator import Operator, Tensors


@dataclass(frozen=True, eq=False)
class CrossEntropy(Operator, name="cross_entropy"):
    """The loss of logits `(..., V)`, computed in float32 or better and given in their dtype.

    labels: `(...)` int64. class_weight: `(V,)` or None. reduction: "mean" (over the labels that are not
    `ignore_index`, weighted by class), "sum" or "none" (the shape of `labels`, 0 where ignored).
    """

    labels: Tensor
    class_weight: Tensor | None = None
    ignore_index: int = -100
    label_smoothing: float = 0.0
    reduction: str = "mean"

    results = ("loss",)
    intermediates = ("divisor",)
    raised = ("logits",)

    @staticmethod
    def forward_compute(
        logits: Tensor,
        labels: Tensor,
        class_weight: Tensor | None,
        ignore_index: int,
        label_smoothing: float,
        reduction: str,
    ) -> tuple[Tensors, Tensors]:
        wide = _wide(logits)
        weight = None if class_weight is None else class_weight.to(wide.dtype)
        losses = F.cross_entropy(
            wide,
            labels.flatten(),
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction="none",
        )
        if reduction == "none":
            return (losses.to(logits.dtype).reshape(labels.shape).clone(),), (losses.new_ones(()),)
        counted = labels.flatten() != ignore_index
        if reduction == "sum":
            divisor = losses.new_ones(())
        elif weight is None:
            divisor = counted.sum().to(losses.dtype)
        else:
            divisor = (weight[labels.flatten().masked_fill(~counted, 0)] * counted).sum()
        return ((losses.sum() / divisor).to(logits.dtype),), (divisor,)

    @staticmethod
    def save_context(ctx: Any, inputs: tuple[Any, ...], saved: Tensors) -> None:
        logits, labels, class_weight, ctx.ignore_index, ctx.label_smoothing, _ = inputs
        ctx.save_for_backward(logits, labels, class_weight, *saved)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensors:
        logits, labels, class_weight, divisor = ctx.saved_tensors
        wide = _wide(logits)
        counted = (labels != ctx.ignore_index).flatten().unsqueeze(1)
        hits = F.one_hot(labels.flatten().masked_fill(~counted.squeeze(1), 0), wide.shape[1]).to(wide.dtype)
        classes = wide.new_ones(wide.shape[1]) if class_weight is None else class_weight.to(wide.dtype)
        mass = (1 - ctx.label_smoothing) * hits * classes + ctx.label_smoothing / wide.shape[1] * classes
        by_loss = (gradient / divisor).to(wide.dtype).reshape(-1, 1)
        by_logits = (torch.softmax(wide, 1) * mass.sum(1, keepdim=True) - mass) * by_loss
        return (torch.where(counted, by_logits, 0).to(logits.dtype).reshape(logits.shape),)


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, -2)
