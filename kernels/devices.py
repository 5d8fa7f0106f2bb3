"""The device that a kernel is launched on: torch's own functions look at their tensors, Triton at what is current."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def on(device: torch.device) -> AbstractContextManager[Any]:
    """A block in which `device` is the current one, as where a model's layers lie on several GPUs."""
    guard = getattr(getattr(torch, device.type, None), "device", None)
    return nullcontext() if device.type == "cpu" or guard is None else guard(device)
