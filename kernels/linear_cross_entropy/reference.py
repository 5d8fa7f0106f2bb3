"""The definition of `linear_cross_entropy`, unfused: what every other implementation is compared with.

    logits = hidden @ weight.T + bias          torch.nn.Linear
    logits = logits.to(logits_dtype)           a cast right after the head (Mamba, xLSTM)
    logits = logits + vocab_bias               `final_logits_bias` (BART)
    logits = logits * scale / divisor          muP multipliers (Cohere, Granite)
    logits = softcap * tanh(logits / softcap)  soft cap (Gemma 2, https://arxiv.org/abs/2408.00118)
    logits = logits[..., :valid_vocab]         vocabulary padded to a round size (Inkling)
    logits = logits / temperature
    loss = cross_entropy(logits.to(loss_dtype), labels) + z_loss * logsumexp(logits) ** 2

Each step runs only if its argument is given, in this order and in the dtype that torch's promotion
gives, so that the numbers are those of the statements in a model's forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fusegen.kernels.devices import autocast_dtype

Number = float | Tensor


class LossOutputs(NamedTuple):
    """The loss, and what `outputs` asked for besides; per token in the shape of the labels.

    logprob: of the label, differentiable. logsumexp: of the logits. entropy: of the softmax, differentiable.
    All three are 0 where the label is ignored. top1: the id with the largest logit, -1 where ignored.
    hits: how many top-1 ids are the label, 0-d int64.
    """

    loss: Tensor
    logprob: Tensor | None = None
    logsumexp: Tensor | None = None
    entropy: Tensor | None = None
    top1: Tensor | None = None
    hits: Tensor | None = None


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
    if labels.dim() == 0:
        raise ValueError("labels: expected a dimension to shift along, got the shape ()")
    return F.pad(labels, (0, 1), value=ignore_index)[..., 1:].contiguous()


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a loss over logits of `dtype` is computed."""
    return torch.promote_types(dtype, torch.float32)


def dtype_over(dtype: torch.dtype, divisor: Number | None) -> torch.dtype:
    """The dtype of a loss, 0-d in `dtype`, over a divisor: torch's promotion, where a dimension counts for more."""
    if not isinstance(divisor, Tensor) or not divisor.is_floating_point():
        return dtype
    return divisor.dtype if divisor.dim() else torch.promote_types(dtype, divisor.dtype)


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
    temperature: float = 1.0,
    loss_dtype: torch.dtype | None = torch.float32,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    class_weight: Tensor | None = None,
    token_weight: Tensor | None = None,
    z_loss: float = 0.0,
    reduction: str = "mean",
    num_items: Number | None = None,
    shift: bool = False,
    outputs: Sequence[str] = (),
) -> Tensor | LossOutputs:
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
    logits = logits if temperature == 1 else logits / temperature
    if loss_dtype is None:
        loss_dtype = torch.float32 if autocast_dtype(logits.device) else logits.dtype
    if shift:
        labels = shifted_labels(labels, ignore_index)
    wide = logits.to(loss_dtype).to(at_least_float32(loss_dtype)).unsqueeze(0).flatten(0, -2)
    target = labels.flatten()
    counted = target != ignore_index
    classes = None if class_weight is None else class_weight[: wide.shape[1]].to(wide.dtype)
    losses = F.cross_entropy(
        wide, target, weight=classes, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction="none"
    )
    lse = wide.logsumexp(1)
    losses = losses + torch.where(counted, z_loss * lse.square(), 0) if z_loss else losses
    weights = counted.to(wide.dtype)
    if token_weight is not None:
        weights = torch.where(counted, token_weight.flatten().to(wide.dtype), 0)
    weighted = torch.where(counted, losses, 0) * weights
    inside = target.masked_fill(~counted, 0)
    if reduction == "none":
        loss = weighted.reshape(labels.shape)
    elif reduction == "sum":
        loss = weighted.sum()
    elif num_items is not None:
        loss = weighted.sum() / num_items
    else:
        loss = weighted.sum() / (weights if classes is None else weights * classes[inside]).sum()
    loss = loss.to(dtype_over(loss_dtype, num_items))
    if not outputs:
        return loss
    logprobs = wide.log_softmax(1)
    rows = {
        "logprob": logprobs.gather(1, inside.unsqueeze(1)).squeeze(1),
        "logsumexp": lse.detach(),
        "entropy": -torch.xlogy(logprobs.exp(), logprobs.exp()).sum(1),
    }
    shaped = {name: torch.where(counted, rows[name], 0).reshape(labels.shape) for name in rows if name in outputs}
    top1 = wide.argmax(1)
    return LossOutputs(
        loss,
        **shaped,
        top1=top1.masked_fill(~counted, -1).reshape(labels.shape) if "top1" in outputs else None,
        hits=((top1 == target) & counted).sum() if "hits" in outputs else None,
    )
