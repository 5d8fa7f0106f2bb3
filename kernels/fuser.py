"""Puts the fused operator in the place of the operators that it computes, in a sequence of them.

    Sequence((Linear(head), Cast(torch.float32), SoftCap(30.0), CrossEntropy(labels)))
    fuse(...)     ->  Sequence((FusedLinearCrossEntropy(head, labels, softcap=30.0, ...),))

A fused sequence gives the same loss and gradients. What cannot be fused stays as it is and runs unfused; the
reason is logged under `fusegen`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fusegen.kernels.linear_cross_entropy.op import linear_cross_entropy
from fusegen.kernels.operator import Operator
from fusegen.kernels.ops import Bias, Cast, CrossEntropy, Linear, LogitScale, Sequence, SoftCap, VocabSlice

logger = logging.getLogger("fusegen")

WIDE = (torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class FusedLinearCrossEntropy:
    """`linear_cross_entropy` as a member of a sequence: the head's weight, the labels, and the keywords."""

    weight: Tensor
    labels: Tensor
    options: dict[str, Any] = field(default_factory=dict)

    is_legacy = False

    def __call__(self, hidden: Tensor) -> Any:
        return linear_cross_entropy(hidden, self.weight, self.labels, **self.options)

    @torch.compiler.disable
    def call_eagerly(self, hidden: Tensor) -> Any:
        """For a sequence that runs through the legacy path; the fused operator itself has no legacy form."""
        return self(hidden)


@dataclass(frozen=True)
class Unfusable:
    """Why a run of operators stays as it is."""

    reason: str


def fuse(sequence: Sequence) -> Sequence:
    """The sequence with the run from its head to its loss fused, or the sequence itself where that cannot be."""
    operators = sequence.operators
    legacy = next((each for each in operators if each.is_legacy), None)
    if legacy is not None:
        return _unfused(sequence, f"{type(legacy).__name__} has only the legacy form")
    last = next((i for i, each in enumerate(operators) if isinstance(each, CrossEntropy)), None)
    if last is None:
        return _unfused(sequence, "no CrossEntropy")
    first = next((i for i in reversed(range(last)) if isinstance(operators[i], Linear)), None)
    if first is None:
        return _unfused(sequence, "no Linear before CrossEntropy")
    fused = _fused(operators[first : last + 1])
    if isinstance(fused, Unfusable):
        return _unfused(sequence, fused.reason)
    return Sequence((*operators[:first], fused, *operators[last + 1 :]))


def _unfused(sequence: Sequence, reason: str) -> Sequence:
    logger.info("runs unfused: %s", reason)
    return sequence


def _fused(operators: tuple[Any, ...]) -> FusedLinearCrossEntropy | Unfusable:
    """The fused operator of a run from `Linear` to `CrossEntropy`."""
    head, *between, loss = operators
    options: dict[str, Any] = {"bias": head.bias, "loss_dtype": None}
    before: set[str] = set()
    for operator in between:
        reason = _add(operator, options, before, len(head.weight))
        if reason is not None:
            return Unfusable(reason)
        before.add(operator.name)
    classes = loss.class_weight
    if classes is not None and len(classes) < len(head.weight):
        classes = torch.nn.functional.pad(classes, (0, len(head.weight) - len(classes)))
    options |= {
        "class_weight": classes,
        "ignore_index": loss.ignore_index,
        "label_smoothing": loss.label_smoothing,
        "reduction": loss.reduction,
    }
    return FusedLinearCrossEntropy(head.weight, loss.labels, options)


def _add(operator: Operator, options: dict[str, Any], before: set[str], vocabulary: int) -> str | None:
    """Puts an operator into the keywords; returns why it cannot be, given the names `before` it."""
    match operator:
        case Cast(dtype=dtype) if dtype in WIDE:
            options["logits_dtype"] = dtype
        case Cast(dtype=dtype):
            return f"a cast to {dtype} drops digits that the fused operator keeps"
        case Bias() if before & {"scale", "soft_cap", "vocab_slice", "bias"}:
            return f"Bias after {' and '.join(sorted(before - {'cast'}))}"
        case Bias(add=add):
            options["vocab_bias"] = add
        case LogitScale(multiply=multiply, divide=divide) if "soft_cap" not in before:
            for name, value in (("scale", multiply), ("divisor", divide)):
                if value is not None:
                    options[name] = options[name] * value if name in options else value
        case LogitScale():
            return "LogitScale after SoftCap"
        case SoftCap() if "soft_cap" in before:
            return "a second SoftCap"
        case SoftCap(cap=cap):
            options["softcap"] = cap
        case VocabSlice(columns=columns):
            options["valid_vocab"] = min(columns, options.get("valid_vocab", vocabulary))
        case _:
            return f"{type(operator).__name__} is no part of the fused operator"
    return None
