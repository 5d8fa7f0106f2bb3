"""Which code computes the fused operators: chosen by device, or by you.

    with use_backend("torch"):            # everything inside, whatever the device
        loss = linear_cross_entropy(...)

`FUSEGEN_BACKEND=torch` in the environment does the same for a whole process. A backend of your own is a
function with the signature of `problem.FusedRows`:

    register_backend(Backend("mine", fused_rows, lambda device, dtype: device.type == "xpu"))
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fusegen.kernels.devices import triton_drives
from fusegen.kernels.linear_cross_entropy import chunked
from fusegen.kernels.linear_cross_entropy.problem import FusedRows, Rows, padded_columns
from fusegen.kernels.linear_cross_entropy.selection import Selection

VARIABLE = "FUSEGEN_BACKEND"
CPU_BUDGET = 256 * 2**20
GPU_ROWS = 2048


@dataclass(frozen=True)
class Backend:
    """A name, its function, and whether it works on a device in the dtype of `RowLoss` (float32 for 16-bit heads)."""

    name: str
    fused_rows: FusedRows
    supports: Callable[[torch.device, torch.dtype], bool]


def default_budget(device: torch.device, vocabulary: int, element_size: int) -> int:
    """Bytes for logits: on a GPU 2048 rows (0.5 GB in 16 bits at a vocabulary of 128256), else 256 MiB.

    Products of so many rows run at full speed there.
    """
    return CPU_BUDGET if device.type == "cpu" else GPU_ROWS * padded_columns(vocabulary) * element_size


def backend_for(device: torch.device, dtype: torch.dtype) -> Backend:
    """The backend in force: the override if there is one, else the first that supports device and dtype.

    Raises:
        ValueError: the override names no backend, or one that does not support device and dtype.
    """
    name = _override or os.environ.get(VARIABLE)
    if name:
        chosen = _named(name)
        if not chosen.supports(device, dtype):
            raise ValueError(f"backend: {name} supports no {dtype} on {device.type}")
        return chosen
    return next(each for each in _backends if each.supports(device, dtype))


def register_backend(backend: Backend) -> None:
    """Put a backend before all others, or in the place of the one with its name."""
    global _backends
    if any(each.name == backend.name for each in _backends):
        _backends = tuple(backend if each.name == backend.name else each for each in _backends)
    else:
        _backends = (backend, *_backends)


def unregister_backend(name: str) -> None:
    """Forget a backend that was registered."""
    global _backends
    _backends = tuple(each for each in _backends if each.name != _named(name).name)


def backend_names() -> tuple[str, ...]:
    """In the order in which they are asked."""
    return tuple(each.name for each in _backends)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force one backend, process-wide, while the block runs; read when a kernel runs, not when it is compiled."""
    global _override
    before, _override = _override, _named(name).name
    try:
        yield
    finally:
        _override = before


def _named(name: str) -> Backend:
    for each in _backends:
        if each.name == name:
            return each
    raise ValueError(f"backend: expected one of {', '.join(backend_names())}, got {name!r}")


def _triton_supports(device: torch.device, dtype: torch.dtype) -> bool:
    return dtype == torch.float32 and triton_drives(device)


def _triton_rows(chosen: Selection, weight: Tensor, **options: Any) -> Rows:
    from fusegen.kernels.linear_cross_entropy.schedules import fused_rows

    return fused_rows(chosen, weight, **options)


_override: str | None = None
_backends: tuple[Backend, ...] = (
    Backend("triton", _triton_rows, _triton_supports),
    Backend("torch", chunked.fused_rows, lambda device, dtype: dtype.is_floating_point),
)
