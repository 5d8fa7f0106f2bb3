"""Sums over chunks of tokens that are rounded once: the gradient of the head, in its own memory.

`add_product` adds `gradient.T @ hidden` to the gradient of the head, which between chunks holds 16-bit
integers with one float32 scale per row and block of columns: sixteen bits where bfloat16 has eight, in the
gradient's own memory. Only the last chunk rounds to the head's dtype. The kernel here is for any device that Triton
serves; Hopper GPUs have one of their own in `hopper_product.py`.
"""

# What Triton compiles has no Python types: its arguments are pointers, scalars and blocks.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from fusegen.kernels.linear_cross_entropy import hopper
from fusegen.kernels.linear_cross_entropy.problem import have_aligned_rows

SCALE_COLUMNS = 256
"""Columns of the head's gradient that share one scale in `add_product`."""


@triton.jit(do_not_specialize=["n_tokens", "vocabulary"])
def _add_product(
    gradient_descriptor, hidden_descriptor, sum_descriptor, out_descriptor, scale_ptr,
    n_tokens, vocabulary, hidden_size, FIRST: tl.constexpr, LAST: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_T: tl.constexpr,
):  # fmt: skip
    """One tile (BLOCK_V, BLOCK_H) of the head's gradient: old + gradient.T @ hidden, stored with 16 bits."""
    blocks_h = tl.cdiv(hidden_size, BLOCK_H)
    blocks_v = tl.cdiv(vocabulary, BLOCK_V)
    program = tl.program_id(0)
    group = program // (GROUP * blocks_h)
    group_size = min(blocks_v - group * GROUP, GROUP)
    first_v = (group * GROUP + (program % (GROUP * blocks_h)) % group_size) * BLOCK_V
    block_h = (program % (GROUP * blocks_h)) // group_size
    first_h = block_h * BLOCK_H

    total = tl.zeros((BLOCK_V, BLOCK_H), tl.float32)
    for start in tl.range(0, n_tokens, BLOCK_T):
        gradient = gradient_descriptor.load([start, first_v])
        hidden = hidden_descriptor.load([start, first_h])
        total = tl.dot(gradient.T, hidden, total)

    rows = first_v + tl.arange(0, BLOCK_V)
    scale_ptrs = scale_ptr + block_h * vocabulary + rows
    if not FIRST:
        scales = tl.load(scale_ptrs, mask=rows < vocabulary, other=0.0)
        total += sum_descriptor.load([first_v, first_h]).to(tl.float32) * scales[:, None]
    if LAST:
        out_descriptor.store([first_v, first_h], total.to(out_descriptor.dtype))
    else:
        scales = tl.max(tl.abs(total), 1) / 32767.0
        tl.store(scale_ptrs, scales, mask=rows < vocabulary)
        total *= (1.0 / tl.where(scales > 0, scales, 1.0))[:, None]
        sum_descriptor.store([first_v, first_h], tl.floor(total + 0.5).to(tl.int16))


TILE = {"BLOCK_V": 128, "BLOCK_H": SCALE_COLUMNS, "BLOCK_T": 64, "GROUP": 8, "num_warps": 8, "num_stages": 3}


def can_add_product(hidden: Tensor, weight: Tensor) -> bool:
    """Whether `add_product` takes these dtypes and alignments."""
    return have_aligned_rows(hidden) and hidden.dtype == weight.dtype


def add_product(gradient: Tensor, hidden: Tensor, out: Tensor, scales: Tensor, *, first: bool, last: bool) -> None:
    """`out += gradient.T @ hidden` over several calls, rounded to the dtype of `out` in the last one alone.

    Args:
        gradient: `(tokens, V)`, 16-bit floating, row stride a multiple of 8.
        hidden: `(tokens, H)`, 16-bit floating, contiguous, H a multiple of 8.
        out: `(V, H)` of a 16-bit dtype; until the last call its memory holds integers.
        scales: `(cdiv(H, SCALE_COLUMNS), V)` float32 scratch, kept between the calls (`product_scales`).
    """
    tokens, hidden_size = hidden.shape
    vocabulary = out.shape[0]
    special = hopper.kernels(out.device)
    if special and special.can_add_product(gradient, hidden, out):
        special.add_product(gradient, hidden, out, scales, first=first, last=last)
        return
    block_t, block_v, block_h = TILE["BLOCK_T"], TILE["BLOCK_V"], TILE["BLOCK_H"]
    grid = (triton.cdiv(vocabulary, block_v) * triton.cdiv(hidden_size, block_h),)
    _add_product[grid](
        TensorDescriptor(gradient, [tokens, vocabulary], [gradient.stride(0), 1], [block_t, block_v]),
        TensorDescriptor(hidden, [tokens, hidden_size], [hidden.stride(0), 1], [block_t, block_h]),
        TensorDescriptor.from_tensor(out.view(torch.int16), [block_v, block_h]),
        TensorDescriptor.from_tensor(out, [block_v, block_h]),
        scales, tokens, vocabulary, hidden_size, FIRST=first, LAST=last, **TILE,
    )  # fmt: skip


def product_scales(weight: Tensor) -> Tensor:
    """Scratch for `add_product` into a gradient like `weight`."""
    blocks = triton.cdiv(weight.shape[1], SCALE_COLUMNS)
    return torch.empty(blocks, weight.shape[0], dtype=torch.float32, device=weight.device)
