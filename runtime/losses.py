"""The stock losses of transformers, on hidden states and a head instead of logits.

    loss = ForCausalLMLoss(softcap(self.lm_head(hidden_states)), labels, vocab_size, **kwargs)
    loss = causal_lm_loss(hidden_states, self.lm_head, labels, vocab_size, softcap=..., **kwargs)

Both lines give the same number and the same gradients; the second never holds the logits. These
adapters take the calling convention of the original (what it shifts, which keywords it ignores, what
it raises) to that of `linear_cross_entropy`. They hold no model knowledge. The keywords that describe
what happens between head and loss (`logits_dtype`, `vocab_bias`, `scale`, `divisor`, `softcap`,
`valid_vocab`) are those of `linear_cross_entropy`. What the kernel does not take of them (`operands.py`) is computed
from full logits, with the numbers and the errors of the original, and counted as unfused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import checkpoint

from fusegen.kernels.linear_cross_entropy.op import linear_cross_entropy
from fusegen.kernels.linear_cross_entropy.reference import Number, vocabulary_logits
from fusegen.runtime import calls
from fusegen.runtime.findings import Finding, described
from fusegen.runtime.operands import divides, not_taken
from fusegen.runtime.projection import Projection
from fusegen.runtime.reasons import FAILED, LABELS

_READ_BY_STOCK_LOSSES = ("num_items_in_batch", "ignore_index", "shift_labels")
_WRITTEN_IN_THE_CALL = ("logits", "labels", "vocab_size")

# Raised when a checkpoint has what the fused loss has computed again; no failure.
_ENOUGH = getattr(checkpoint, "_StopRecomputationError", ())


def stock_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Of a caller's keywords, those that the losses of transformers read; they ignore others, whatever their names.

    `model(..., softcap=1.0)` changes nothing in the original, and must not become an argument of the fused loss.

    Raises:
        TypeError: one of them is an argument that the call of the loss writes itself; as the original.
    """
    for name in _WRITTEN_IN_THE_CALL:
        if name in keywords:
            raise TypeError(f"the loss got multiple values for argument {name!r}")
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
    softcap: Number | None = None,
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
        The loss, float32 whatever the logits are, unless `num_items_in_batch` makes it another dtype.

    Raises:
        RuntimeError, ValueError: `vocab_size` or the number of labels does not fit; as the original.
        ValueError: neither `labels` nor `shift_labels` is given.
    """
    if shift_labels is None:
        if labels is None:
            raise ValueError("labels: expected a tensor where shift_labels is not given")
        shift_labels = F.pad(labels, (0, 1), value=ignore_index)[..., 1:].contiguous()
    transforms = {
        "logits_dtype": logits_dtype,
        "vocab_bias": vocab_bias,
        "scale": scale,
        "divisor": divisor,
        "softcap": softcap,
        "valid_vocab": valid_vocab,
    }
    options = {
        "loss_dtype": torch.float32,
        "ignore_index": ignore_index,
        "label_smoothing": 0.0,
        "reduction": "mean" if num_items_in_batch is None else "sum",
    }
    return _loss(hidden_states, head, shift_labels.flatten(), vocab_size, transforms, options, num_items_in_batch)


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
    softcap: Number | None = None,
    valid_vocab: int | None = None,
) -> Tensor:
    """`CrossEntropyLoss(...)(logits.view(-1, vocab_size), labels.view(-1))` for `logits = head(hidden_states)`.

    Args:
        hidden_states: `(..., H)`.
        labels: as many as there are rows of hidden states, in any shape; or a probability for each logit.
        vocab_size: the width that the original views its logits as; None where it is the logits' own.
        loss_dtype: dtype to which the original casts its logits right before the loss. None where it
            does not: the loss then has the dtype of the logits (bfloat16 for bfloat16 weights; float32
            under autocast), computed in float32 and rounded once.

    Returns:
        The loss; one per row, `(N,)`, for `reduction="none"`.

    Raises:
        RuntimeError, ValueError: `vocab_size` or the number of labels does not fit; as the original.
    """
    transforms = {
        "logits_dtype": logits_dtype,
        "vocab_bias": vocab_bias,
        "scale": scale,
        "divisor": divisor,
        "softcap": softcap,
        "valid_vocab": valid_vocab,
    }
    options = {
        "loss_dtype": loss_dtype,
        "ignore_index": ignore_index,
        "label_smoothing": label_smoothing,
        "reduction": reduction,
    }
    return _loss(hidden_states, head, labels, vocab_size, transforms, options)


def _loss(
    hidden_states: Tensor,
    head: nn.Linear | Projection,
    labels: Tensor,
    vocab_size: int | None,
    transforms: dict[str, Any],
    options: dict[str, Any],
    num_items: Any = None,
) -> Tensor:
    """The loss, fused if the kernel takes all of it; a sum is divided by `num_items` as the original does that."""
    bias = transforms["vocab_bias"]
    if isinstance(bias, Tensor) and isinstance(hidden_states, Tensor):
        transforms["vocab_bias"] = bias.to(hidden_states.device)
    finding = not_taken(hidden_states, head, labels, vocab_size, transforms, options)
    finding = finding or _number_of_labels(hidden_states, labels)
    if finding is not None:
        _settle(finding)
        loss = _unfused(hidden_states, head, labels, vocab_size, transforms, options)
    elif num_items is not None and divides(num_items):
        return _fused(hidden_states, head, labels, transforms, options | {"reduction": "mean", "num_items": num_items})
    else:
        loss = _fused(hidden_states, head, labels, transforms, options)
    if num_items is None:
        return loss
    return loss / (num_items.to(loss.device) if isinstance(num_items, Tensor) else num_items)


def _fused(
    hidden_states: Tensor,
    head: nn.Linear | Projection,
    labels: Tensor,
    transforms: dict[str, Any],
    options: dict[str, Any],
) -> Tensor:
    rows = hidden_states.unsqueeze(0).flatten(0, -2)
    targets = labels.flatten().to(rows.device)
    if torch.compiler.is_compiling():
        # How many rows a mask chose is known when the graph runs: there it is a RuntimeError.
        torch._check(len(rows) == len(targets), lambda: "Expected as many labels as rows of the input.")
        loss = linear_cross_entropy(rows, head.weight, targets, bias=head.bias, **transforms, **options)
    else:
        try:
            loss = linear_cross_entropy(rows, head.weight, targets, bias=head.bias, **transforms, **options)
        except _ENOUGH:
            calls.settle(calls.FUSED)
            raise
        except Exception as error:
            calls.settle(FAILED, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
            raise
    calls.settle(calls.FUSED)
    return loss


def _unfused(
    hidden_states: Tensor,
    head: nn.Linear | Projection,
    labels: Tensor,
    vocab_size: int | None,
    transforms: dict[str, Any],
    options: dict[str, Any],
) -> Tensor:
    """What the original statements compute."""
    logits = vocabulary_logits(hidden_states, head.weight, bias=head.bias, **transforms)
    if options["loss_dtype"] is not None:
        logits = logits.to(options["loss_dtype"])
    logits = logits.reshape(-1, logits.shape[-1] if vocab_size is None else vocab_size)
    are_probabilities = labels.dim() > 1 and labels.is_floating_point() and labels.numel() == logits.numel()
    return F.cross_entropy(
        logits,
        (labels.reshape(logits.shape) if are_probabilities else labels.flatten()).to(logits.device),
        ignore_index=options["ignore_index"],
        label_smoothing=options["label_smoothing"],
        reduction=options["reduction"],
    )


def _number_of_labels(hidden_states: Tensor, labels: Tensor) -> Finding | None:
    if torch.compiler.is_compiling() or hidden_states.shape[:-1].numel() == labels.numel():
        return None
    return Finding(LABELS, "labels", labels)


def _settle(finding: Finding) -> None:
    calls.settle(finding.code, "" if torch.compiler.is_compiling() else described(finding))
