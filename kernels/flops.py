"""What the operators cost, for `torch.utils.flop_counter.FlopCounterMode`: the products with the head, as torch counts.

Rows whose label is ignored are counted, as they are where full logits are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry, register_flop_formula

_formulas: dict[Any, Any] = {}


def count_flops(name: str, flops: Callable[..., int]) -> None:
    """Registers the cost of `torch.ops.fusegen.<name>`; `flops` is given the operator's inputs, tensors as shapes."""
    packet = getattr(torch.ops.fusegen, name)
    flop_registry.pop(packet, None)
    _formulas[packet] = register_flop_formula(packet)(lambda *inputs, out_shape=None: flops(*inputs))


def tell_counters() -> None:
    """Gives the formulas to the active counters: one that is older than this module has a copy without them."""
    for mode in torch.utils._python_dispatch._get_current_dispatch_mode_stack():
        known = getattr(getattr(mode, "counter", None), "flop_registry", None)
        if isinstance(known, dict):
            known.update(_formulas)
