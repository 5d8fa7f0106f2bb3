"""Checks of the arguments of `linear_cross_entropy`: each error says which argument and what was expected."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from fusegen.kernels.devices import autocast_dtype

REDUCTIONS = ("none", "mean", "sum")
OUTPUTS = ("logprob", "logsumexp", "entropy", "top1", "hits")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

PLAIN = (Tensor, torch.nn.Parameter)

INFINITE = float("inf")


def check_tensors(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    vocab_bias: Tensor | None,
    class_weight: Tensor | None,
    token_weight: Tensor | None,
) -> None:
    """Shapes, dtypes and devices of the tensors; raises `TypeError` or `ValueError`."""
    _check_dtype("hidden", hidden)
    _check_dtype("weight", weight)
    _check_dtype("labels", labels, (torch.int64,), "torch.int64")
    if weight.dim() != 2 or weight.shape[0] == 0:
        raise ValueError(f"weight: expected the shape (vocabulary, hidden size), got {tuple(weight.shape)}")
    vocabulary, hidden_size = weight.shape
    if hidden.dim() == 0 or hidden.shape[-1] != hidden_size:
        raise ValueError(f"hidden: expected the shape (..., {hidden_size}) of weight, got {tuple(hidden.shape)}")
    per_class, per_token = (vocabulary,), tuple(hidden.shape[:-1])
    for name, tensor, shape in (
        ("weight", weight, (vocabulary, hidden_size)),
        ("labels", labels, per_token),
        ("bias", bias, per_class),
        ("vocab_bias", vocab_bias, per_class),
        ("class_weight", class_weight, per_class),
        ("token_weight", token_weight, per_token),
    ):
        if tensor is None:
            continue
        if name != "labels":
            _check_dtype(name, tensor)
        found = tuple(tensor.shape)
        if found != shape and not (name == "vocab_bias" and found == (1, *shape)):
            raise ValueError(f"{name}: expected the shape {shape}, got {found}")
        if tensor.device != hidden.device:
            raise ValueError(f"{name}: expected the device {hidden.device} of hidden, got {tensor.device}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and operand_dtype(tensor) != operand_dtype(hidden):
            raise TypeError(f"{name}: expected the dtype {hidden.dtype} of hidden, got {tensor.dtype}")
    _check_no_gradient("class_weight", class_weight)


def check_options(
    vocabulary: int,
    *,
    scale: Any,
    divisor: Any,
    softcap: Any,
    valid_vocab: Any,
    temperature: Any,
    logits_dtype: Any,
    loss_dtype: Any,
    ignore_index: Any,
    label_smoothing: Any,
    z_loss: Any,
    reduction: Any,
    num_items: Any,
    shift: Any,
    budget: Any,
    exact: Any,
    outputs: Any,
) -> None:
    """The arguments that are no large tensors; raises `TypeError` or `ValueError`."""
    number, one = Real | Tensor | None, "a number or a tensor of one element, real"
    for name, value in (("scale", scale), ("divisor", divisor)):
        _check(name, value, number, one, _is_one_number)
    _check("num_items", num_items, number, one, lambda x: _is_one_number(x, may_be_bool=True))
    _check_no_gradient("num_items", num_items)
    _check("softcap", softcap, Real | None, "a finite number", lambda x: abs(x) < INFINITE)
    _check("temperature", temperature, Real, "a finite number above 0", lambda x: 0 < x < INFINITE)
    _check("z_loss", z_loss, Real, "a finite number", lambda x: abs(x) < INFINITE)
    _check("label_smoothing", label_smoothing, Real, "a number from 0 to 1", lambda x: 0 <= x <= 1)
    rows = f"1 to {vocabulary} (the rows of weight)"
    _check("valid_vocab", valid_vocab, Integral | None, rows, lambda x: 1 <= x <= vocabulary)
    _check("ignore_index", ignore_index, Integral, "an integer of 64 bits", lambda x: -(2**63) <= x < 2**63)
    _check("budget", budget, Integral | None, "a positive number of bytes", lambda x: x > 0)
    _check("logits_dtype", logits_dtype, torch.dtype | None, "a floating dtype", lambda x: x in FLOATS)
    _check("loss_dtype", loss_dtype, torch.dtype | None, "a floating dtype", lambda x: x in FLOATS)
    _check("shift", shift, bool, "True or False")
    _check("exact", exact, bool, "True or False")
    _check("reduction", reduction, str, f"one of {', '.join(REDUCTIONS)}", lambda x: x in REDUCTIONS)
    _check("outputs", outputs, Collection, f"some of {', '.join(OUTPUTS)}", _are_outputs)
    if num_items is not None and reduction != "mean":
        raise ValueError(f'num_items: it replaces the divisor of reduction="mean", but reduction is {reduction!r}')


def operand_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype in which an operand of the head's product takes part: autocast leaves float64 alone."""
    lowered = None if tensor.dtype == torch.float64 else autocast_dtype(tensor.device)
    return lowered or tensor.dtype


def _check(name: str, value: Any, kind: Any, expected: str, fits: Callable[[Any], bool] = lambda value: True) -> None:
    """Raises `TypeError` for other kinds, `ValueError` where a value (None apart) does not fit; no bool is a number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}")
    if value is not None and not fits(value):
        found = f"{value.dtype} of the shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"{name}: expected {expected}, got {found}")


def _is_one_number(value: Any, may_be_bool: bool = False) -> bool:
    if not isinstance(value, Tensor):
        return True
    return value.numel() == 1 and (may_be_bool or value.dtype != torch.bool) and not value.is_complex()


def _are_outputs(names: Any) -> bool:
    return not isinstance(names, str) and all(name in OUTPUTS for name in names)


def _check_dtype(
    name: str, tensor: Any, dtypes: Any = FLOATS, expected: str = "a floating dtype of 16 bits or more"
) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if type(tensor) not in PLAIN and _is_sharded(tensor):
        raise TypeError(
            f"{name}: expected a tensor of this process, got a DTensor, for which the fused loss has no rule; pass"
            f" `{name}.full_tensor()`, or compute the loss unfused"
        )
    if tensor.dtype not in dtypes:
        raise TypeError(f"{name}: expected {expected}, got {tensor.dtype}")


def _is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor, whose module is only imported where there is one."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def _check_no_gradient(name: str, value: Any) -> None:
    if isinstance(value, Tensor) and value.requires_grad:
        raise ValueError(f"{name}: expected a tensor without gradient, since none is computed for it")


def check_labels(labels: Tensor, counted: Tensor, vocabulary: int) -> None:
    """Labels that count lie in the vocabulary, else `IndexError`.

    Only looked at on the CPU; elsewhere the device's own assertion does this without a synchronisation.
    """
    if labels.device.type != "cpu":
        return
    wrong = labels[counted & ((labels < 0) | (labels >= vocabulary))]
    if len(wrong):
        raise IndexError(f"labels: expected 0 to {vocabulary - 1} or ignore_index, got {int(wrong[0])}")
