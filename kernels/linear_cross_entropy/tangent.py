"""Derivatives of rows along tangents of the operands: what a gradient of rows is differentiated with.

In plain torch on any device, in chunks of tokens like `chunked.py`: it is asked for by nothing but the derivative of a
gradient by what multiplies the rows. Along (hidden', weight', bias', scale') the logits x and z = cap(scale * x) move by

    x' = hidden' @ weight.T + hidden @ weight'.T + bias'          z' = (scale * x' + scale' * x) * slope of the cap

and a number of the row by the scalar product of z' and its gradient by z.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fusegen.kernels.linear_cross_entropy import chunked
from fusegen.kernels.linear_cross_entropy.problem import RowLoss
from fusegen.kernels.linear_cross_entropy.selection import Selection


class Tangents(NamedTuple):
    """Of the operands, in their shapes; None is 0."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    scale: Tensor | None


def along(
    tangents: Tangents,
    chosen: Selection,
    weight: Tensor,
    bias: Tensor | None,
    row: RowLoss,
    class_weight: Tensor | None,
    budget: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """How loss, log-probability and entropy of the rows that count move, each `(n,)` in the dtype of `row`."""
    columns = len(weight) if row.valid_vocab is None else row.valid_vocab
    classes = None if class_weight is None else class_weight[:columns].to(row.dtype)
    offset = None if bias is None else bias[:columns].to(row.dtype)
    hidden, labels = chosen.hidden, chosen.labels
    moved = None if tangents.hidden is None else chosen.of(tangents.hidden)
    chunks = []
    for part in chunked.slices(len(hidden), chunked.chunk_rows(columns, row.dtype, budget)):
        x = _product(hidden[part], weight[:columns], row.dtype)
        x = x if offset is None else x + offset
        z = chunked.transformed(x, row, in_place=False)
        shift = _moved_logits(tangents, None if moved is None else moved[part], hidden[part], weight, x, row)
        if row.softcap is not None:
            shift = shift * (1 - (z / row.softcap).square())
        target = labels[part].unsqueeze(1)
        lse = z.logsumexp(1)
        logprobs = z.log_softmax(1)
        entropy = chunked.row_entropy(logprobs)
        ones = torch.ones_like(lse)
        weights = ((ones, None, None), (None, ones, None), (None, None, ones))
        gradients = (
            chunked.gradient_by_logits(logprobs.clone(), None, lse, entropy, target, classes, row, *each)
            for each in weights
        )
        chunks.append([(gradient * shift).sum(1) for gradient in gradients])
    loss, logprob, entropy = (torch.cat(each) for each in zip(*chunks, strict=True))
    return loss, logprob, entropy


def _moved_logits(
    tangents: Tangents, moved: Tensor | None, hidden: Tensor, weight: Tensor, x: Tensor, row: RowLoss
) -> Tensor:
    """scale * x' + scale' * x for some rows."""
    columns = x.shape[1]
    shift = torch.zeros_like(x)
    if moved is not None:
        shift += _product(moved, weight[:columns], row.dtype)
    if tangents.weight is not None:
        shift += _product(hidden, tangents.weight[:columns], row.dtype)
    if tangents.bias is not None:
        shift += tangents.bias[:columns].to(row.dtype)
    shift = shift * row.scale
    return shift if tangents.scale is None else shift + tangents.scale * x


def _product(rows: Tensor, head: Tensor, dtype: torch.dtype) -> Tensor:
    """`rows @ head.T`, in `dtype` from the start: a tangent has no dtype in which its digits are known to suffice."""
    return rows.to(dtype) @ head.to(dtype).T
