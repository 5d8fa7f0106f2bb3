"""Devices and what torch and Triton know of them: the current one, autocast, whether Triton has a driver."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

_KINDS = {"nvidia": "cuda", "amd": "cuda", "intel": "xpu"}
"""What torch calls the devices of Triton's drivers."""


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
    """The kind of device of the one active driver. None is built: what fails then must fail at a launch, loudly."""
    if find_spec("triton") is None:
        return None
    from triton.backends import backends

    active = [name for name, backend in backends.items() if backend.driver.is_active()]
    return _KINDS.get(active[0]) if len(active) == 1 else None
