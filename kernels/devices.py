"""Devices and what torch and Triton know of them: the current one, autocast, whether Triton has a driver."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch


def on(device: torch.device) -> AbstractContextManager[Any]:
    """A block in which `device` is the current one, as where a model's layers lie on several GPUs.

    torch's own functions look at their tensors, Triton at what is current.
    """
    guard = getattr(getattr(torch, device.type, None), "device", None)
    return nullcontext() if device.type == "cpu" or guard is None else guard(device)


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """What autocast computes in on `device`, None where it is off; meta tensors have none."""
    # torch.amp.is_autocast_available would say so of any device, but the Dynamo of torch 2.11 cannot trace it.
    kind = device.type
    return torch.get_autocast_dtype(kind) if kind != "meta" and torch.is_autocast_enabled(kind) else None


def triton_drives(device: torch.device) -> bool:
    """Whether Triton has a driver for this accelerator: CUDA, ROCm (which torch calls cuda as well) or XPU."""
    return device.type != "cpu" and device.type == _driven_by_triton()


@cache
def _driven_by_triton() -> str | None:
    if find_spec("triton") is None:
        return None
    from triton.runtime import driver

    try:
        return str(driver.active.get_active_torch_device().type)
    except RuntimeError:  # no driver, or several
        return None
