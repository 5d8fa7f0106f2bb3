"""The nouns that every backend of `linear_cross_entropy` shares: what is asked of it and what it gives back.

A backend is one function, `fused_rows`. It gets rows that all count (ignored ones are dropped before) and

    logits = (hidden @ weight.T + bias) * scale
    logits = softcap * tanh(logits / softcap)                                        where there is a cap
    logits = logits[:, :valid_vocab]
    loss_i = (1 - e) * w[y_i] * (lse_i - logits_i[y_i]) + e / C * sum_c w[c] * (lse_i - logits_i[c]) + z * lse_i**2

with e = `label_smoothing`, w = `class_weight` (1 where there is none; as `torch.nn.functional.cross_entropy`),
C = `valid_vocab` or V, and z = `z_loss` (never multiplied by a class weight; PaLM, arXiv:2204.02311, section 5).
The gradients are those of `sum_i row_weight_i * loss_i`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowLoss:
    """What happens to a row between the head's product and its loss. `dtype` is that of all this arithmetic."""

    scale: Tensor | float = 1.0
    softcap: float | None = None
    valid_vocab: int | None = None
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Need:
    """The gradients that somebody will use."""

    hidden: bool = False
    weight: bool = False
    bias: bool = False
    scale: bool = False


@dataclass(frozen=True)
class Want:
    """The outputs that cost extra."""

    entropy: bool = False
    top1: bool = False


@dataclass(frozen=True)
class Rows:
    """What a backend returns; None for what was not asked. Numbers per row are in `RowLoss.dtype`.

    loss, lse, logprob, entropy: `(N,)`. top1: `(N,)` int64. grad_hidden: `(N, H)` in the dtype of hidden.
    grad_weight: `(V, H)` in the dtype of weight. grad_bias: `(V,)`. grad_scale: 0-d, in `RowLoss.dtype`.
    """

    loss: Tensor
    lse: Tensor
    logprob: Tensor
    entropy: Tensor | None = None
    top1: Tensor | None = None
    grad_hidden: Tensor | None = None
    grad_weight: Tensor | None = None
    grad_bias: Tensor | None = None
    grad_scale: Tensor | None = None


class FusedRows(Protocol):
    """The one function of a backend.

    Args:
        hidden: `(N, H)`, any stride. weight: `(V, H)`. labels: `(N,)` int64, in `[0, valid_vocab or V)`.
        bias: `(V,)` or None. class_weight: `(V,)` or None.
        row_weight: `(N,)`, the gradient of the total by each row's loss; None computes no gradient at all.
        need, want: what is asked for beyond the losses.
        budget: bytes of workspace above the gradients themselves.
        exact: the gradient of `weight` as accurate as with full logits.
    """

    def __call__(
        self,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        *,
        bias: Tensor | None,
        row: RowLoss,
        class_weight: Tensor | None,
        row_weight: Tensor | None,
        need: Need,
        budget: int,
        exact: bool = False,
        want: Want = ...,
    ) -> Rows: ...
