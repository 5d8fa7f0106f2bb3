"""Whether the kernels for Hopper GPUs can be used: `hopper_product.py` is imported only where they can."""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType

import torch
import triton

COMPILED_WITH = ((3, 6), (3, 9))
"""The first and the last release of Triton that is known to compile them: Gluon changes between releases."""

_log = logging.getLogger(__name__)


@cache
def kernels(device: torch.device) -> ModuleType | None:
    """The kernels of `hopper_product.py`, or None where `device` is no Hopper GPU or Triton has another release."""
    if device.type != "cuda" or torch.version.hip or torch.cuda.get_device_capability(device) != (9, 0):
        return None
    if not compiles():
        first, last = COMPILED_WITH
        _log.info("Triton %s: the kernels for Hopper GPUs are for %d.%d to %d.%d", triton.__version__, *first, *last)
        return None
    from fusegen.kernels.linear_cross_entropy import hopper_product

    return hopper_product


def compiles() -> bool:
    """Whether this release of Triton is one that compiles them."""
    major, minor = triton.__version__.split(".")[:2]
    first, last = COMPILED_WITH
    return first <= (int(major), int(minor)) <= last
