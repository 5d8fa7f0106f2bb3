"""Linear head and cross-entropy in one, without the full logits: exact, in plain torch, on any device.

Rows whose label is ignored are dropped before the product. The rest is worked through in chunks of
tokens, in the forward for the losses and in the backward, where a chunk's logits are computed again,
for the gradients. Gradients of parameters are summed over the chunks in float32 or better.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fusegen.kernels.linear_cross_entropy.arguments import check_labels, check_options, check_tensors
from fusegen.kernels.linear_cross_entropy.reference import (
    Number,
    at_least_float32,
    shifted_labels,
    vocabulary_logits,
)

CHUNK_BYTES = 64 * 2**20
"""Bytes of one float32 copy of a chunk's logits. The work on a chunk holds up to five such copies at once."""

NOTHING_IGNORED = torch.iinfo(torch.int64).min


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    logits_dtype: torch.dtype | None = None,
    vocab_bias: Tensor | None = None,
    scale: Number | None = None,
    divisor: Number | None = None,
    softcap: float | None = None,
    valid_vocab: int | None = None,
    loss_dtype: torch.dtype | None = torch.float32,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    num_items: Number | None = None,
    shift: bool = False,
) -> Tensor:
    """The cross-entropy of `labels` under the logits `hidden @ weight.T`, as `reference.py` defines it.

    Args:
        hidden: `(..., H)`, any floating dtype and stride.
        weight: `(V, H)`, in the dtype of `hidden` unless autocast is on.
        labels: `(...)`, int64.
        bias: `(V,)`, the head's own.
        logits_dtype: dtype to which the head's output is cast; None leaves it.
        vocab_bias: `(V,)` or `(1, V)`, added after the head.
        scale, divisor: a number or a tensor of one element; the logits are multiplied, divided by it.
        softcap: the cap of `cap * tanh(logits / cap)`.
        valid_vocab: only the first so many columns count.
        loss_dtype: dtype to which the logits are cast before the loss, and of the loss. None: that of the
            logits (float32 under autocast), as `torch.nn.CrossEntropyLoss` does. Sums run in float32 or better.
        ignore_index: rows with this label count for nothing; any value, inside the vocabulary too.
        label_smoothing: 0 to 1, as in `torch.nn.functional.cross_entropy`.
        reduction: `none` (the shape of `labels`, 0 where ignored), `mean` or `sum`.
        num_items: a number or a tensor of one element that replaces the divisor of `mean`.
        shift: position i predicts label i + 1, along the last dimension of `labels`.

    Returns:
        A fresh tensor, never a view. With all labels ignored `mean` is NaN and its gradients are zero.

    Raises:
        TypeError, ValueError: an argument does not fit the others; names it.
        IndexError: a label outside the vocabulary that is not `ignore_index` (checked on the CPU).
    """
    check_tensors(hidden, weight, labels, bias, vocab_bias)
    check_options(len(weight), scale, divisor, softcap, valid_vocab, label_smoothing, reduction, num_items)
    if shift:
        labels = shifted_labels(labels, ignore_index)
    counted = labels != ignore_index
    rows = counted.flatten().nonzero().squeeze(1)
    kept = labels.flatten().index_select(0, rows)
    check_labels(kept, valid_vocab or len(weight))
    hidden = hidden.flatten(0, -2)
    if len(rows) < len(hidden):
        hidden = hidden.index_select(0, rows)

    autocast = torch.is_autocast_enabled(hidden.device.type)
    if autocast:
        hidden, weight, bias = _as_autocast(hidden), _as_autocast(weight), None if bias is None else _as_autocast(bias)
    operands: dict[str, Any] = {"bias": bias, "vocab_bias": vocab_bias, "scale": scale, "divisor": divisor}
    tensors = {"weight": weight} | {name: value for name, value in operands.items() if isinstance(value, Tensor)}
    numbers = {name: value for name, value in operands.items() if value is not None and name not in tensors}
    project = partial(vocabulary_logits, **numbers, logits_dtype=logits_dtype, softcap=softcap, valid_vocab=valid_vocab)
    if loss_dtype is None:
        loss_dtype = torch.float32 if autocast else _logits_dtype(project, hidden, tensors)
    token_losses = partial(_token_losses, project, tuple(tensors), loss_dtype, label_smoothing)
    losses = _Chunked.apply(token_losses, _chunk_rows(len(weight)), kept, hidden, *tensors.values())

    if reduction == "none":
        everywhere = torch.zeros(labels.shape, dtype=losses.dtype, device=losses.device)
        return everywhere.masked_scatter(counted, losses).to(loss_dtype)
    total = losses.sum()
    if num_items is not None:
        return total.to(loss_dtype) / (num_items.to(total.device) if isinstance(num_items, Tensor) else num_items)
    return (total / len(losses) if reduction == "mean" else total).to(loss_dtype)


def _as_autocast(tensor: Tensor) -> Tensor:
    """What autocast hands to a linear: everything but float64 in its dtype."""
    if tensor.dtype == torch.float64:
        return tensor
    return tensor.to(torch.get_autocast_dtype(tensor.device.type))


def _logits_dtype(project: partial[Tensor], hidden: Tensor, tensors: dict[str, Tensor]) -> torch.dtype:
    """The dtype of the logits, found on no row and one column."""
    column = {name: value if name in ("scale", "divisor") else value[..., :1] for name, value in tensors.items()}
    column["weight"] = tensors["weight"][:1]
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        return project(hidden[:0], **column).dtype


def _chunk_rows(vocabulary: int) -> int:
    return max(1, CHUNK_BYTES // (4 * vocabulary))


def _token_losses(
    project: partial[Tensor],
    names: tuple[str, ...],
    loss_dtype: torch.dtype,
    label_smoothing: float,
    labels: Tensor,
    hidden: Tensor,
    *tensors: Tensor,
) -> Tensor:
    """One loss per row, `(N,)`, in float32 or better."""
    with torch.autocast(hidden.device.type, enabled=False):
        logits = project(hidden, **dict(zip(names, tensors, strict=True))).to(loss_dtype)
        logits = logits.to(at_least_float32(loss_dtype))
        return F.cross_entropy(
            logits, labels, ignore_index=NOTHING_IGNORED, label_smoothing=label_smoothing, reduction="none"
        )


class _Chunked(torch.autograd.Function):
    """`token_losses(labels, hidden, *tensors)` over chunks of `rows`, with nothing kept but its inputs."""

    @staticmethod
    def forward(ctx: Any, token_losses: Any, rows: int, labels: Tensor, hidden: Tensor, *tensors: Tensor) -> Tensor:
        ctx.token_losses, ctx.rows = token_losses, rows
        ctx.save_for_backward(labels, hidden, *tensors)
        return torch.cat([token_losses(*chunk, *tensors) for chunk in _chunks(rows, labels, hidden)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        labels, *operands = ctx.saved_tensors
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[3:]) if needed]
        totals = {i: torch.zeros_like(operands[i], dtype=_total_dtype(i, operands[i])) for i in wanted}
        start = 0
        for chunk_gradient, chunk_labels, hidden in _chunks(ctx.rows, gradient, labels, operands[0]):
            inputs = [operand.detach().requires_grad_(i in wanted) for i, operand in enumerate([hidden, *operands[1:]])]
            with torch.enable_grad():
                losses = ctx.token_losses(chunk_labels, *inputs)
            gradients = torch.autograd.grad(losses, [inputs[i] for i in wanted], chunk_gradient)
            for i, part in zip(wanted, gradients, strict=True):
                total = totals[i] if i else totals[i][start : start + len(hidden)]
                total += part
            start += len(hidden)
        return None, None, None, *(totals[i].to(t.dtype) if i in totals else None for i, t in enumerate(operands))


def _total_dtype(position: int, operand: Tensor) -> torch.dtype:
    """Hidden states come first and have their gradient from one chunk each; the rest is summed over all chunks."""
    return at_least_float32(operand.dtype) if position else operand.dtype


def _chunks(rows: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors cut alike along their first dimension; one empty chunk where there is no row."""
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)
