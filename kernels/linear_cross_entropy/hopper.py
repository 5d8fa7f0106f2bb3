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
    first, last = COMPILED_WITH
    if not first <= release() <= last:
        _log.info("Triton %s: the kernels for Hopper GPUs are for %d.%d to %d.%d", triton.__version__, *first, *last)
        return None
    from fusegen.kernels.linear_cross_entropy import hopper_product

    return hopper_product


def release() -> tuple[int, int]:
    """Of Triton: major and minor."""
    major, minor = triton.__version__.split(".")[:2]
    return int(major), int(minor)
