"""The Triton kernel of `rescale.py`: multiply in place, unless the factor is 1."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 8192
PROGRAMS = 1024
"""Enough to fill any device, and few enough that looking at the factor alone takes no time."""


@triton.jit(do_not_specialize=["elements"])
def _multiply_unless_one(gradient_ptr, factor_ptr, elements, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    factor = tl.load(factor_ptr).to(tl.float32)
    if factor != 1.0:
        for block in tl.range(tl.program_id(0), tl.cdiv(elements, BLOCK), tl.num_programs(0)):
            index = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
            inside = index < elements
            value = tl.load(gradient_ptr + index, mask=inside)
            tl.store(gradient_ptr + index, (value.to(tl.float32) * factor).to(value.dtype), mask=inside)


def launch(gradient: Tensor, factor: Tensor) -> None:
    """`gradient *= factor`, computed in float32; float64 loses digits only where the factor has them."""
    if gradient.dtype == torch.float64:
        gradient.mul_(factor)
        return
    elements = gradient.numel()
    grid = (min(triton.cdiv(elements, BLOCK), PROGRAMS),)
    _multiply_unless_one[grid](gradient, factor.contiguous(), elements, BLOCK=BLOCK)
