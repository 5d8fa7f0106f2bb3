"""The definition of `linear_cross_entropy`, unfused: what every other implementation is compared with.

    logits = hidden @ weight.T + bias          torch.nn.Linear
    logits = logits.to(logits_dtype)           a cast right after the head (Mamba, xLSTM)
    logits = logits + vocab_bias               `final_logits_bias` (BART)
    logits = logits * scale / divisor          muP multipliers (Cohere, Granite)
    logits = softcap * tanh(logits / softcap)  soft cap (Gemma 2, https://arxiv.org/abs/2408.00118)
    logits = logits[..., :valid_vocab]         vocabulary padded to a round size (Inkling)
    loss = cross_entropy(logits.to(loss_dtype), labels)

Each step runs only if its argument is given, in this order and in the dtype that torch's promotion
gives, so that the numbers are those of the statements in a model's forward.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

Number = float | Tensor


def vocabulary_logits(
    hidden: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    logits_dtype: torch.dtype | None = None,
    vocab_bias: Tensor | None = None,
    scale: Number | None = None,
    divisor: Number | None = None,
    softcap: float | None = None,
    valid_vocab: int | None = None,
) -> Tensor:
    """The logits `(..., valid_vocab or V)` of hidden states `(..., H)` under a head `(V, H)`, transforms applied."""
    logits = F.linear(hidden, weight, bias)
    if logits_dtype is not None:
        logits = logits.to(logits_dtype)
    if vocab_bias is not None:
        logits = logits + vocab_bias
    if scale is not None:
        logits = logits * scale
    if divisor is not None:
        logits = logits / divisor
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    return logits if valid_vocab is None else logits[..., :valid_vocab]


def shifted_labels(labels: Tensor, ignore_index: int) -> Tensor:
    """Labels `(..., S)` moved one to the left, so that position i predicts token i + 1; the last is ignored."""
    return F.pad(labels, (0, 1), value=ignore_index)[..., 1:].contiguous()


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a loss over logits of `dtype` is computed."""
    return torch.promote_types(dtype, torch.float32)


def linear_cross_entropy_reference(
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
    """`linear_cross_entropy` with full logits and no checks; see there for the arguments."""
    logits = vocabulary_logits(
        hidden,
        weight,
        bias=bias,
        logits_dtype=logits_dtype,
        vocab_bias=vocab_bias,
        scale=scale,
        divisor=divisor,
        softcap=softcap,
        valid_vocab=valid_vocab,
    )
    if loss_dtype is None:
        loss_dtype = torch.float32 if torch.is_autocast_enabled(logits.device.type) else logits.dtype
    if shift:
        labels = shifted_labels(labels, ignore_index)
    losses = F.cross_entropy(
        logits.to(loss_dtype).to(at_least_float32(loss_dtype)).flatten(0, -2),
        labels.flatten(),
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction="sum" if num_items is not None else reduction,
    ).to(loss_dtype)
    if num_items is not None:
        return losses / num_items
    return losses.reshape(labels.shape) if reduction == "none" else losses
