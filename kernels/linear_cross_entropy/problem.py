"""The nouns that every backend of `linear_cross_entropy` shares: what is asked of it and what it gives back.

A backend is one function, `fused_rows`. Of the rows of a `Selection` it takes those that count, and

    logits = (hidden @ weight.T + bias) * scale
    logits = softcap * tanh(logits / softcap)                                        where there is a cap
    logits = logits[:, :valid_vocab]
    loss_i = (1 - e) * w[y_i] * (lse_i - logits_i[y_i]) + e / C * sum_c w[c] * (lse_i - logits_i[c]) + z * lse_i**2

with e = `label_smoothing`, w = `class_weight` (1 where there is none; as `torch.nn.functional.cross_entropy`),
C = `valid_vocab` or V, and z = `z_loss` (never multiplied by a class weight; PaLM, arXiv:2204.02311, section 5).
The gradients are those of

    sum_i row_weight_i * loss_i + logprob_weight_i * log p_i[y_i] + entropy_weight_i * H_i

with p the softmax of a row and H its entropy. By the transformed logits of a row that is

    d_j = p_j * (a - g_H * (log p_j + H)) - b * [j == y] - c * w_j

    a = g * ((1 - e) * w_y + e * W / C + 2 * z * lse) - g_logprob        W = sum of the class weights
    b = g * (1 - e) * w_y - g_logprob                                    c = g * e / C

where g, g_logprob and g_H are the row's three weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fusegen.kernels.linear_cross_entropy.selection import Selection


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
class RowWeights:
    """The gradient of the total by what each row gives, all `(N,)` in the order of the labels; None is 0."""

    loss: Tensor | None = None
    logprob: Tensor | None = None
    entropy: Tensor | None = None

    def __bool__(self) -> bool:
        return any(each is not None for each in (self.loss, self.logprob, self.entropy))


@dataclass(frozen=True)
class Rows:
    """What a backend returns; None for what was not asked. Numbers per row are in `RowLoss.dtype`.

    loss, lse, logprob, entropy: `(n,)`, of the rows that count. top1: `(n,)` int64.
    grad_hidden: `(N, H)` in the dtype of hidden, 0 where rows do not count.
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
        chosen: hidden states `(N, H)`, any stride, labels `(N,)` int64, and which of them count.
        weight: `(V, H)`. bias: `(V,)` or None. class_weight: `(V,)` or None.
        row_weights: falsy where no gradient at all is computed.
        need, want: what is asked for beyond the losses.
        budget: bytes for the logits that are held at once.
        exact: the gradient of `weight` as accurate as with full logits.
    """

    def __call__(
        self,
        chosen: Selection,
        weight: Tensor,
        *,
        bias: Tensor | None,
        row: RowLoss,
        class_weight: Tensor | None,
        row_weights: RowWeights,
        need: Need,
        budget: int,
        exact: bool = False,
        want: Want = ...,
    ) -> Rows: ...


def have_aligned_rows(*operands: Tensor) -> bool:
    """Whether matrices have one dtype of 16 bits and rows at multiples of 16 bytes: what tensor descriptors take."""
    return all(
        each.dtype == operands[0].dtype
        and each.element_size() == 2
        and each.stride(1) == 1
        and each.stride(0) % 8 == 0
        and each.data_ptr() % 16 == 0
        for each in operands
    )


def padded_columns(columns: int) -> int:
    """Columns of a buffer of logits: each row starts at a multiple of 16, as wide loads and matrix units ask."""
    return -(-columns // 16) * 16
