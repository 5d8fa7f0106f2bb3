"""What source cannot prove, asked at each call: may this forward take its fused path here and now?

    if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
        ...the fused loss...
    else:
        ...the original statements...

A refusal is counted, and logged once per class and reason under `fusegen`.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import _has_any_global_hook

from fusegen.runtime import reasons
from fusegen.runtime.policy import policy

logger = logging.getLogger("fusegen")

FUSED = "fused"
STOCK_LOSSES = "transformers.loss.loss_utils"
_PLAIN_TENSORS = (nn.Parameter, torch.Tensor)
_PLAIN_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_calls: dict[type, Counter[str]] = {}


def fusible(module: nn.Module, head: Any, labels: Any, loss: str | None = None) -> bool:
    """Whether the generated forward of `module` may fuse `head` with its loss in this call.

    Args:
        module: the model whose forward runs.
        head: what the original calls to get the logits.
        labels: what the original asks for before it computes a loss; None refuses without a count.
        loss: the stock loss that `module.loss_function` must be (`ForCausalLMLoss`, `ForMaskedLMLoss`);
            None where the forward computes its cross-entropy itself.
    """
    if labels is None:
        return False
    refusal = _refusal(module, head, loss)
    counter = _calls.setdefault(type(module), Counter())
    outcome = refusal or FUSED
    counter[outcome] += 1
    if refusal and counter[outcome] == 1:
        level = logging.INFO if refusal == reasons.POLICY else logging.WARNING
        logger.log(level, "%s runs unfused: %s %s", type(module).__name__, refusal, reasons.REASONS[refusal])
    return not refusal


def coverage() -> dict[str, dict[str, int]]:
    """How often each class was called with labels, by outcome: `{"...LlamaForCausalLM": {"fused": 12, "FG511": 3}}`."""
    return {f"{cls.__module__}.{cls.__qualname__}": dict(counter) for cls, counter in _calls.items()}


def reset_coverage() -> None:
    """Forget all counts; each refusal is logged anew."""
    _calls.clear()


def _refusal(module: nn.Module, head: Any, loss: str | None) -> str | None:
    if not policy.allows(module.training):
        return reasons.POLICY
    return head_refusal(head) or (reasons.LOSS_FUNCTION if loss and not _is_stock(module.loss_function, loss) else None)


def head_refusal(head: Any) -> str | None:
    """The code of what keeps `head(hidden)` from being `hidden @ weight.T + bias` and nothing else, or None.

    A parametrised head has a class of its own; ZeRO and FSDP keep a shard of another shape in `weight`.
    """
    if type(head) is not nn.Linear:
        return reasons.HEAD_TYPE
    if (
        head._forward_pre_hooks
        or head._forward_hooks
        or head._backward_pre_hooks
        or head._backward_hooks
        or "forward" in head.__dict__
        or _has_any_global_hook()
    ):
        return reasons.HEAD_HOOKS
    if not _is_plain(head.weight, 2) or not (head.bias is None or _is_plain(head.bias, 1)):
        return reasons.HEAD_WEIGHT
    return None


def _is_plain(tensor: Any, dimensions: int) -> bool:
    return (
        type(tensor) in _PLAIN_TENSORS
        and tensor.dim() == dimensions
        and tensor.dtype in _PLAIN_DTYPES
        and not tensor.is_meta
    )


def _is_stock(function: Any, name: str) -> bool:
    """Whether `function` is the loss of that name as transformers defines it, with nothing wrapped or replaced."""
    stock = vars(sys.modules[STOCK_LOSSES]) if STOCK_LOSSES in sys.modules else {}
    return function is stock.get(name) and all(
        getattr(part, "__module__", None) == STOCK_LOSSES and not hasattr(part, "__wrapped__")
        for part in (function, stock.get("fixed_cross_entropy"))
    )
