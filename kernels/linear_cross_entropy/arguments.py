"""Checks of the arguments of `linear_cross_entropy`: each error says which argument and what was expected."""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
from torch import Tensor

REDUCTIONS = ("none", "mean", "sum")
OUTPUTS = ("logprob", "logsumexp", "entropy", "top1", "hits")


def check_tensors(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, vocab_bias: Tensor | None
) -> None:
    """Shapes, dtypes and devices of the tensors; raises `TypeError` or `ValueError`."""
    for name, tensor in (("hidden", hidden), ("weight", weight), ("labels", labels)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    for name, tensor in (("hidden", hidden), ("weight", weight)):
        if not tensor.is_floating_point():
            raise TypeError(f"{name}: expected a floating dtype, got {tensor.dtype}")
    if labels.dtype != torch.int64:
        raise TypeError(f"labels: expected torch.int64, got {labels.dtype}")
    if weight.dim() != 2 or weight.shape[0] == 0:
        raise ValueError(f"weight: expected the shape (vocabulary, hidden size), got {tuple(weight.shape)}")
    vocabulary, hidden_size = weight.shape
    if hidden.dim() < 2 or hidden.shape[-1] != hidden_size:
        raise ValueError(f"hidden: expected the shape (..., {hidden_size}) of weight, got {tuple(hidden.shape)}")
    if labels.shape != hidden.shape[:-1]:
        raise ValueError(f"labels: expected the shape {tuple(hidden.shape[:-1])} of hidden, got {tuple(labels.shape)}")
    if bias is not None and bias.shape != (vocabulary,):
        raise ValueError(f"bias: expected the shape ({vocabulary},), got {tuple(bias.shape)}")
    if vocab_bias is not None and tuple(vocab_bias.shape) not in ((vocabulary,), (1, vocabulary)):
        raise ValueError(f"vocab_bias: expected the shape ({vocabulary},), got {tuple(vocab_bias.shape)}")
    for name, other in (("weight", weight), ("labels", labels), ("bias", bias), ("vocab_bias", vocab_bias)):
        if other is not None and other.device != hidden.device:
            raise ValueError(f"{name}: expected the device {hidden.device} of hidden, got {other.device}")
    if not torch.is_autocast_enabled(hidden.device.type):
        for name, other in (("weight", weight), ("bias", bias)):
            if other is not None and other.dtype != hidden.dtype:
                raise TypeError(f"{name}: expected the dtype {hidden.dtype} of hidden, got {other.dtype}")


def check_options(
    vocabulary: int,
    scale: Any,
    divisor: Any,
    softcap: Any,
    valid_vocab: Any,
    label_smoothing: Any,
    reduction: Any,
    num_items: Any,
) -> None:
    """The arguments that are no large tensors; raises `TypeError` or `ValueError`."""
    for name, value in (("scale", scale), ("divisor", divisor), ("num_items", num_items)):
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ValueError(f"{name}: expected a tensor of one element, got the shape {tuple(value.shape)}")
        elif not isinstance(value, Real | None):
            raise TypeError(f"{name}: expected a number or a tensor of one element, got {type(value).__name__}")
    if not isinstance(softcap, Real | None):
        raise TypeError(f"softcap: expected a number, got {type(softcap).__name__}")
    if valid_vocab is not None and not 1 <= valid_vocab <= vocabulary:
        raise ValueError(f"valid_vocab: expected 1 to {vocabulary} (the rows of weight), got {valid_vocab}")
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing: expected a number from 0 to 1, got {label_smoothing}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction: expected one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    if num_items is not None and reduction != "mean":
        raise ValueError(f'num_items: it replaces the divisor of reduction="mean", but reduction is {reduction!r}')


def check_weights(
    labels: Tensor, vocabulary: int, class_weight: Any, token_weight: Any, z_loss: Any, temperature: Any
) -> None:
    """The weights of classes and tokens, and the numbers beside them; raises `TypeError` or `ValueError`."""
    shapes = (("class_weight", class_weight, (vocabulary,)), ("token_weight", token_weight, tuple(labels.shape)))
    for name, tensor, shape in shapes:
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
        if not tensor.is_floating_point():
            raise TypeError(f"{name}: expected a floating dtype, got {tensor.dtype}")
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name}: expected the shape {shape}, got {tuple(tensor.shape)}")
        if tensor.device != labels.device:
            raise ValueError(f"{name}: expected the device {labels.device} of hidden, got {tensor.device}")
    if class_weight is not None and class_weight.requires_grad:
        raise ValueError("class_weight: expected a tensor without gradient, as torch's cross_entropy does")
    for name, value in (("z_loss", z_loss), ("temperature", temperature)):
        if isinstance(value, bool | Tensor) or not isinstance(value, Real):
            raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number above 0, got {temperature}")


def check_choices(logits_dtype: Any, loss_dtype: Any, budget: Any, outputs: Any, ignore_index: Any) -> None:
    """Dtypes, budget and names of outputs; raises `TypeError` or `ValueError`."""
    for name, dtype in (("logits_dtype", logits_dtype), ("loss_dtype", loss_dtype)):
        if dtype is None:
            continue
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise TypeError(f"{name}: expected a floating dtype, got {dtype}")
    if not isinstance(ignore_index, int):
        raise TypeError(f"ignore_index: expected an integer, got {type(ignore_index).__name__}")
    if budget is not None and not isinstance(budget, int):
        raise TypeError(f"budget: expected a number of bytes, got {type(budget).__name__}")
    if budget is not None and budget <= 0:
        raise ValueError(f"budget: expected a positive number of bytes, got {budget}")
    if isinstance(outputs, str):
        raise TypeError(f"outputs: expected a sequence of names, got the string {outputs!r}")
    for name in outputs:
        if name not in OUTPUTS:
            raise ValueError(f"outputs: expected some of {', '.join(OUTPUTS)}, got {name!r}")


def check_labels(labels: Tensor, counted: Tensor, vocabulary: int) -> None:
    """Labels that count lie in the vocabulary, else `IndexError`.

    Only looked at on the CPU; elsewhere the device's own assertion does this without a synchronisation.
    """
    if labels.device.type != "cpu":
        return
    wrong = labels[counted & ((labels < 0) | (labels >= vocabulary))]
    if len(wrong):
        raise IndexError(f"labels: expected 0 to {vocabulary - 1} or ignore_index, got {int(wrong[0])}")
