"""What the kernel does not take of a call: then the loss is computed as the original does, from full logits.

    softcap=nn.Parameter(...)      scale=torch.ones(vocabulary)      divisor=0.0      labels.to(torch.uint8)

The kernel raises for each of these (`kernels/linear_cross_entropy/arguments.py`), where the original statements have
a number, or an error of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fusegen.kernels.linear_cross_entropy.arguments import FLOATS, REDUCTIONS, operand_dtype
from fusegen.runtime.findings import Finding
from fusegen.runtime.projection import Projection
from fusegen.runtime.reasons import HIDDEN, LABELS, OPERAND

# For dynamo, a buffer has a class of its own.
_PLAIN_TENSORS = (nn.Parameter, torch.Tensor, nn.Buffer)
_LARGEST = 2.0**100
"""Numbers beyond it, or whose reciprocals are, may be 0 or infinite in float32: torch's own rounding decides there."""


def is_plain(tensor: Any) -> bool:
    """Whether it is a tensor of torch's own class, dense, of a dtype that the kernel computes with."""
    return _is_dense(tensor) and tensor.dtype in FLOATS


def is_integral(labels: Any) -> bool:
    """Whether labels may be class indices, of any integral dtype, in a plain tensor."""
    return _is_dense(labels) and not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)


def not_taken(
    hidden_states: Any,
    head: nn.Linear | Projection,
    labels: Any,
    vocab_size: Any,
    transforms: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Finding | None:
    """What keeps the kernel from computing a loss that a model asks for, or None.

    `transforms` and `options` are keywords of `linear_cross_entropy`. The number of labels is not asked for.
    """
    weight = head.weight
    if not (is_plain(hidden_states) and _fits(hidden_states, weight)):
        return Finding(HIDDEN, "hidden states", hidden_states)
    if not (_is_dense(labels) and labels.dtype == torch.int64 and not labels.is_meta):
        return Finding(LABELS, "labels", labels)
    if not (is_plain(weight) and weight.dim() == 2 and (head.bias is None or _is_bias(head.bias, weight, False))):
        return Finding(OPERAND, "head", weight)
    columns = transforms["valid_vocab"]
    if columns is not None and not (_is_integer(columns) and 1 <= columns <= len(weight)):
        return Finding(OPERAND, "valid_vocab", columns)
    if vocab_size is not None and vocab_size != (len(weight) if columns is None else columns):
        return Finding(OPERAND, "vocab_size", vocab_size)
    for name, value, taken in _asked(weight, transforms, options):
        if not taken:
            return Finding(OPERAND, name, value)
    return None


def divides(num_items: Any) -> bool:
    """Whether the kernel can divide by `num_items_in_batch` and give the dtype and shape that the original gives."""
    if isinstance(num_items, Tensor):
        plain = _is_dense(num_items) and num_items.dim() == 0 and not num_items.requires_grad
        return plain and num_items.dtype not in (torch.float64, torch.bool) and not num_items.is_complex()
    return _is_number(num_items) and num_items != 0


def _fits(hidden_states: Tensor, weight: Tensor) -> bool:
    return (
        hidden_states.dim() > 0
        and hidden_states.shape[-1] == weight.shape[-1]
        and hidden_states.device == weight.device
        and operand_dtype(hidden_states) == operand_dtype(weight)
    )


def _asked(
    weight: Tensor, transforms: Mapping[str, Any], options: Mapping[str, Any]
) -> Iterator[tuple[str, Any, bool]]:
    bias, scale, divisor = transforms["vocab_bias"], transforms["scale"], transforms["divisor"]
    cap, smoothing, ignored = transforms["softcap"], options["label_smoothing"], options["ignore_index"]
    yield "vocab_bias", bias, bias is None or _is_bias(bias, weight, True)
    yield "scale", scale, scale is None or _is_one_number(scale, weight, True)
    yield "divisor", divisor, divisor is None or _is_one_number(divisor, weight, False)
    yield "softcap", cap, cap is None or (_is_number(cap) and _is_moderate(cap))
    for name, dtype in (("logits_dtype", transforms["logits_dtype"]), ("loss_dtype", options["loss_dtype"])):
        yield name, dtype, dtype is None or dtype in FLOATS
    yield "ignore_index", ignored, _is_integer(ignored) and -(2**63) <= ignored < 2**63
    yield "label_smoothing", smoothing, _is_number(smoothing) and 0 <= smoothing <= 1
    yield "reduction", options["reduction"], options["reduction"] in REDUCTIONS


def _is_dense(tensor: Any) -> bool:
    return type(tensor) in _PLAIN_TENSORS and tensor.layout == torch.strided and not tensor.is_nested


def _is_bias(bias: Any, weight: Tensor, one_row: bool) -> bool:
    """Whether it has an entry for each row of the head; a bias after the head may have a dimension more, of one."""
    if not is_plain(bias) or bias.device != weight.device:
        return False
    shape = tuple(bias.shape)
    return shape == (len(weight),) or (one_row and shape == (1, len(weight)))


def _is_one_number(value: Any, weight: Tensor, zero: bool) -> bool:
    """Whether it is one real number: of Python, not extreme, or in a tensor that torch's own product would take."""
    if not isinstance(value, Tensor):
        return _is_number(value) and (_is_moderate(value) or (zero and value == 0))
    if not _is_dense(value) or value.is_meta or value.numel() != 1:
        return False
    on_device = value.device == weight.device or (value.dim() == 0 and value.device.type == "cpu")
    return on_device and value.dtype != torch.bool and not value.is_complex()


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_moderate(value: float) -> bool:
    """No NaN is."""
    return 1 / _LARGEST <= abs(value) <= _LARGEST
