"""The stock losses of transformers, on hidden states and a head instead of logits.

    loss = ForCausalLMLoss(softcap(self.lm_head(hidden_states)), labels, vocab_size, **kwargs)
    loss = causal_lm_loss(hidden_states, self.lm_head, labels, vocab_size, softcap=..., **kwargs)

Both lines give the same number and the same gradients; the second never holds the logits. These
adapters take the calling convention of the original (what it shifts, which keywords it ignores, what
it raises) to that of `linear_cross_entropy`. They hold no model knowledge. The keywords that describe
what happens between head and loss (`logits_dtype`, `vocab_bias`, `scale`, `divisor`, `softcap`,
`valid_vocab`) are those of `linear_cross_entropy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fusegen.kernels.linear_cross_entropy.op import linear_cross_entropy
from fusegen.kernels.linear_cross_entropy.reference import Number, shifted_labels
from fusegen.runtime.projection import Projection

_READ_BY_STOCK_LOSSES = ("num_items_in_batch", "ignore_index", "shift_labels")


def stock_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Of a caller's keywords, those that the losses of transformers read; they ignore others, whatever their names.

    `model(..., softcap=1.0)` changes nothing in the original, and must not become an argument of the fused loss.
    """
    return {name: keywords[name] for name in _READ_BY_STOCK_LOSSES if name in keywords}


def causal_lm_loss(
    hidden_states: Tensor,
    head: nn.Linear | Projection,
    labels: Tensor | None,
    vocab_size: int | None,
    num_items_in_batch: Number | None = None,
    ignore_index: int = -100,
    shift_labels: Tensor | None = None,
    *,
    logits_dtype: torch.dtype | None = None,
    vocab_bias: Tensor | None = None,
    scale: Number | None = None,
    divisor: Number | None = None,
    softcap: float | None = None,
    valid_vocab: int | None = None,
    **kwargs: Any,
) -> Tensor:
    """`transformers.loss.loss_utils.ForCausalLMLoss` on `head(hidden_states)` with the transforms applied.

    Args:
        hidden_states: `(..., S, H)`; two-dimensional where a mask chose the positions.
        head: the linear that projects to the vocabulary; its bias counts.
        labels: `(..., S)`, not shifted; not read if `shift_labels` is given.
        vocab_size: the width that the original views its logits as; None where it is the logits' own.
        num_items_in_batch: replaces the number of counted labels as divisor.
        shift_labels: labels that are shifted already.
        **kwargs: ignored, as the original ignores them.

    Returns:
        The loss, float32 whatever the logits are.

    Raises:
        RuntimeError, ValueError: `vocab_size` or the number of labels does not fit; as the original.
        ValueError: neither `labels` nor `shift_labels` is given.
    """
    if shift_labels is None:
        if labels is None:
            raise ValueError("labels: expected a tensor where shift_labels is not given")
        shift_labels = shifted_labels(labels, ignore_index)
    hidden_states, shift_labels = _aligned_rows(hidden_states, head, shift_labels, vocab_size, valid_vocab)
    return linear_cross_entropy(
        hidden_states,
        head.weight,
        shift_labels,
        bias=head.bias,
        logits_dtype=logits_dtype,
        vocab_bias=vocab_bias,
        scale=scale,
        divisor=divisor,
        softcap=softcap,
        valid_vocab=valid_vocab,
        loss_dtype=torch.float32,
        ignore_index=ignore_index,
        num_items=num_items_in_batch,
    )


def masked_lm_loss(
    hidden_states: Tensor,
    head: nn.Linear | Projection,
    labels: Tensor,
    vocab_size: int | None,
    num_items_in_batch: Number | None = None,
    ignore_index: int = -100,
    **kwargs: Any,
) -> Tensor:
    """`transformers.loss.loss_utils.ForMaskedLMLoss` on `head(hidden_states)`: labels are not shifted.

    The arguments are those of `causal_lm_loss`; `shift_labels` is ignored, as the original ignores it.
    """
    aligned = kwargs | {"shift_labels": labels}
    return causal_lm_loss(hidden_states, head, None, vocab_size, num_items_in_batch, ignore_index, **aligned)


def cross_entropy_loss(
    hidden_states: Tensor,
    head: nn.Linear | Projection,
    labels: Tensor,
    *,
    vocab_size: int | None = None,
    loss_dtype: torch.dtype | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    logits_dtype: torch.dtype | None = None,
    vocab_bias: Tensor | None = None,
    scale: Number | None = None,
    divisor: Number | None = None,
    softcap: float | None = None,
    valid_vocab: int | None = None,
) -> Tensor:
    """`CrossEntropyLoss(...)(logits.view(-1, vocab_size), labels.view(-1))` for `logits = head(hidden_states)`.

    Args:
        hidden_states: `(..., H)`.
        labels: as many as there are rows of hidden states, in any shape.
        vocab_size: the width that the original views its logits as; None where it is the logits' own.
        loss_dtype: dtype to which the original casts its logits right before the loss. None where it
            does not: the loss then has the dtype of the logits (bfloat16 for bfloat16 weights; float32
            under autocast), computed in float32 and rounded once.

    Returns:
        The loss; one per row, `(N,)`, for `reduction="none"`.

    Raises:
        RuntimeError, ValueError: `vocab_size` or the number of labels does not fit; as the original.
    """
    hidden_states, labels = _aligned_rows(hidden_states, head, labels, vocab_size, valid_vocab)
    return linear_cross_entropy(
        hidden_states,
        head.weight,
        labels,
        bias=head.bias,
        logits_dtype=logits_dtype,
        vocab_bias=vocab_bias,
        scale=scale,
        divisor=divisor,
        softcap=softcap,
        valid_vocab=valid_vocab,
        loss_dtype=loss_dtype,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )


def _aligned_rows(
    hidden_states: Tensor, head: nn.Linear | Projection, labels: Tensor, vocab_size: int | None, valid_vocab: int | None
) -> tuple[Tensor, Tensor]:
    """Hidden states `(N, H)` and labels `(N,)` on one device; raises what the original's view and loss raise."""
    hidden_states = hidden_states.flatten(0, -2)
    labels = labels.flatten().to(hidden_states.device)
    rows, columns = len(hidden_states), valid_vocab or len(head.weight)
    if vocab_size is not None and vocab_size != columns:
        if (rows * columns) % vocab_size:
            raise RuntimeError(f"shape '[-1, {vocab_size}]' is invalid for input of size {rows * columns}")
        raise ValueError(f"vocab_size: expected the {columns} columns of the logits, got {vocab_size}")
    if torch.compiler.is_compiling():
        # How many rows a mask chose is known when the graph runs: there it is a RuntimeError.
        torch._check(rows == len(labels), lambda: "Expected as many labels as rows of the input.")
    elif rows != len(labels):
        raise ValueError(f"Expected input batch_size ({rows}) to match target batch_size ({len(labels)}).")
    return hidden_states, labels
