"""Linear head and cross-entropy in one, without the full logits: `linear_cross_entropy`.

    loss = F.cross_entropy(softcap(hidden @ weight.T).float(), labels)         # holds (N, V) logits, twice
    loss = linear_cross_entropy(hidden, weight, labels, softcap=30.0)          # holds a chunk of them

This file checks the arguments and brings them to the few that the registered operators of `operators.py`
take: the biases to one, scale, divisor and temperature to one factor. Gradients of what it combines here are
autograd's; those of the operators are exact, with no entry filtered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusegen.kernels.devices import autocast_dtype
from fusegen.kernels.linear_cross_entropy.arguments import check_options, check_tensors, operand_dtype
from fusegen.kernels.linear_cross_entropy.operators import (
    LinearCrossEntropy,
    TokenCrossEntropy,
    row_weights,
    times_class_weights,
)
from fusegen.kernels.linear_cross_entropy.reference import (
    LossOutputs,
    Number,
    at_least_float32,
    dtype_over,
    shifted_labels,
)


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
    budget: int | None = None,
    exact: bool = False,
    outputs: Sequence[str] = (),
) -> Any:
    """The cross-entropy of `labels` under the logits `hidden @ weight.T`, as `reference.py` defines it.

    What follows the product is computed in float32 (float64 where an operand or a named dtype is), whatever the
    logits' dtype in the model was: never with less digits than the statements that it replaces.

    Args:
        hidden: `(..., H)`, any floating dtype of 16 bits or more, any stride.
        weight: `(V, H)`, in the dtype of `hidden` unless autocast is on.
        labels: `(...)`, int64.
        bias: `(V,)`, the head's own.
        logits_dtype: dtype to which the head's output is cast; it decides the dtype of the loss where
            `loss_dtype` is None. None leaves it.
        vocab_bias: `(V,)` or `(1, V)`, added after the head.
        scale, divisor: a number or a tensor of one element; the logits are multiplied, divided by it.
        softcap: the cap of `cap * tanh(logits / cap)`.
        valid_vocab: only the first so many columns count.
        temperature: the transformed logits are divided by it, above 0.
        loss_dtype: dtype of the loss. None: that of the logits (float32 under autocast), as
            `torch.nn.CrossEntropyLoss` does.
        ignore_index: rows with this label count for nothing; any value, inside the vocabulary too.
        label_smoothing: 0 to 1, as in `torch.nn.functional.cross_entropy`.
        class_weight: `(V,)`, as `weight` there; it has no gradient.
        token_weight: the shape of `labels`; each token's loss is multiplied by it. Where it requires a gradient,
            the logits are computed twice.
        z_loss: coefficient of `logsumexp(logits) ** 2`, added to each token's loss (arXiv:2204.02311, section 5).
        reduction: `none` (the shape of `labels`, 0 where ignored), `mean` or `sum`. The divisor of `mean` is the
            sum of the weights (token's times class's) of the tokens that count: their number without weights.
        num_items: a number or a tensor of one element that replaces the divisor of `mean`; it has no gradient. The
            dtype of the loss is then what torch's division by it gives (float64 for a tensor of float64).
        shift: position i predicts label i + 1, along the last dimension of `labels`.
        budget: bytes of workspace above the gradients; None for the backend's own (`kernels/backends.py`). Without
            Triton the gradient of a 16-bit head is summed in float32 beside it.
        exact: the gradient of `weight` as accurate as with full logits, at some cost in time.
        outputs: some of `logprob`, `logsumexp`, `entropy`, `top1`, `hits`, see `LossOutputs`. While gradients are
            recorded, `logprob` and `entropy` are differentiable, and the backward computes the logits again.

    Returns:
        The loss, a fresh tensor and never a view; `LossOutputs` where `outputs` names anything. With all labels
        ignored `mean` is NaN and its gradients are zero.

    Raises:
        TypeError, ValueError: an argument does not fit the others; names it.
        IndexError: a label outside the vocabulary that is not `ignore_index` (checked on the CPU; elsewhere
            the device stops with a message).
        NotImplementedError: its gradient is differentiated by an operand (by what multiplies the loss it can be), or
            it is differentiated in forward mode.
        RuntimeError: in the backward, torch's own, where an operand that the unfused statements keep was changed in
            place since (in `reduction="none"`, and with `outputs`, the frozen one of `hidden` and `weight` as well).
    """
    check_tensors(hidden, weight, labels, bias, vocab_bias, class_weight, token_weight)
    check_options(
        len(weight), scale=scale, divisor=divisor, softcap=softcap, valid_vocab=valid_vocab, temperature=temperature,
        logits_dtype=logits_dtype, loss_dtype=loss_dtype, ignore_index=ignore_index, label_smoothing=label_smoothing,
        z_loss=z_loss, reduction=reduction, num_items=num_items, shift=shift, budget=budget, exact=exact,
        outputs=outputs,
    )  # fmt: skip
    if shift:
        labels = shifted_labels(labels, ignore_index)
    logits = _dtype_of_logits(hidden, logits_dtype, vocab_bias, scale, divisor)
    if loss_dtype is None:
        loss_dtype = torch.float32 if autocast_dtype(hidden.device) else logits
    dtype = at_least_float32(torch.promote_types(torch.promote_types(hidden.dtype, logits), loss_dtype))

    offset = _sum_of_biases(bias, vocab_bias, dtype)
    scale_tensor, factor = _one_scale(scale, divisor, float(temperature), dtype, hidden.device)
    cap = None if softcap is None else float(softcap) / float(temperature)
    rows, targets = hidden.unsqueeze(0).flatten(0, -2), labels.flatten()
    tokens = None if token_weight is None else token_weight.flatten()
    items = num_items if isinstance(num_items, Tensor) else _as_scalar(num_items, dtype, hidden.device)
    want = ["entropy" in outputs, "top1" in outputs or "hits" in outputs]
    columns = None if valid_vocab is None else int(valid_vocab)
    numbers = (int(ignore_index), factor, cap, columns, float(label_smoothing), float(z_loss))
    room = None if budget is None else int(budget)
    need = [torch.is_grad_enabled() and t is not None and t.requires_grad for t in (rows, weight, offset, scale_tensor)]

    weighs = torch.is_grad_enabled() and tokens is not None and tokens.requires_grad
    if reduction == "none" or weighs or (any(need) and ("logprob" in outputs or want[0])):
        loss, logprob, entropy, lse, top1 = TokenCrossEntropy.apply(
            rows, weight, targets, offset, scale_tensor, class_weight, *numbers, room, exact, dtype, want
        )
        weights = row_weights(targets != ignore_index, tokens, dtype)
        loss = loss if tokens is None else loss * weights
        if reduction == "none":
            loss = loss.reshape(labels.shape)
        else:
            loss = loss.sum()
            if reduction == "mean" and items is None:
                items = times_class_weights(weights, class_weight, targets).sum()
            loss = loss if items is None else loss / _as_scalar(items, dtype, hidden.device)
    else:
        loss, logprob, lse, entropy, top1 = LinearCrossEntropy.apply(
            rows, weight, targets, offset, scale_tensor, class_weight, tokens, items,
            *numbers, reduction == "mean", room, exact, dtype, need, want,
        )  # fmt: skip
    if isinstance(num_items, Tensor) and num_items.dim() > 0:
        loss = loss.reshape(num_items.shape)
    loss = loss.to(dtype_over(loss_dtype, num_items), copy=reduction == "none" or loss.dim() > 0)
    if not outputs:
        return loss
    shown = {"logprob": logprob, "logsumexp": lse, "entropy": entropy, "top1": top1}
    return LossOutputs(
        loss,
        **{name: value.reshape(labels.shape) for name, value in shown.items() if name in outputs},
        hits=((top1 == targets) & (targets != ignore_index)).sum() if "hits" in outputs else None,
    )


def _dtype_of_logits(
    hidden: Tensor, logits_dtype: torch.dtype | None, vocab_bias: Tensor | None, *scales: Number | None
) -> torch.dtype:
    """What torch's promotion makes of the head's output on its way to the loss."""
    dtype = logits_dtype or operand_dtype(hidden)
    for operand in (vocab_bias, *scales):
        if isinstance(operand, Tensor) and operand.dim() > 0:
            dtype = torch.promote_types(dtype, operand.dtype)
    return dtype


def _sum_of_biases(bias: Tensor | None, vocab_bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if vocab_bias is None:
        return bias
    return vocab_bias.flatten() if bias is None else bias.to(dtype) + vocab_bias.flatten().to(dtype)


def _one_scale(
    scale: Number | None, divisor: Number | None, temperature: float, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor | None, float]:
    """`scale / divisor / temperature` as a 0-d tensor if one of them is a tensor, and as a number if none is."""
    factor, tensor = 1.0 / temperature, None
    if isinstance(scale, Tensor):
        tensor = _as_scalar(scale, dtype, device)
    elif scale is not None:
        factor = factor * float(scale)
    if isinstance(divisor, Tensor):
        below = _as_scalar(divisor, dtype, device)
        tensor = factor / below if tensor is None else tensor * factor / below
        return tensor, 1.0
    if divisor is not None:
        # By 0 as torch divides, not as Python does.
        factor = factor / float(divisor) if divisor else math.copysign(factor, divisor) * math.inf
    if tensor is None:
        return None, factor
    # Not multiplied by 1: a copy would not have the version of what it is made from.
    return (tensor if factor == 1 else tensor * factor), 1.0


def _as_scalar(value: Number | None, dtype: torch.dtype, device: torch.device) -> Any:
    if value is None:
        return None
    if isinstance(value, Tensor):
        return value.to(device, dtype).reshape(())
    return torch.full((), value, dtype=dtype, device=device)
