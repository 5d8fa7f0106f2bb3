"""Matrix products for Hopper GPUs that do in the same kernel what follows them.

    multiply_statistics    of hidden @ weight.T each row's maximum and sum of exponentials, by blocks of columns
    add_product            a sum of products that is rounded once (see `exact_product.py`)

To store the logits as well was measured, and left out: it takes what is saved of the softmax's pass over them.

A program walks over tiles of 192 x 256 outputs: three warpgroups hold 64 rows each and share the right operand. Tiles
of 128 rows ask the L2 cache for a third more, and wait for it. Operands come through the tensor memory accelerator in a
ring of stages; the first warpgroup asks for a stage once all three have read it, across the ends of tiles, so that
the next tile's operands are there while one is being finished.

Written in Gluon, since Triton's own pipeline has neither three warpgroups nor a ring that outlives a tile.
"""

# What Triton compiles has no Python types: its arguments are pointers, scalars and blocks.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from functools import cache

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma, warpgroup_mma, warpgroup_mma_wait
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from fusegen.kernels.linear_cross_entropy.exact_product import SCALE_COLUMNS
from fusegen.kernels.linear_cross_entropy.problem import have_aligned_rows

_copy = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared
"""Renamed in Triton 3.9."""

COLUMNS = SCALE_COLUMNS
"""Of a tile: a row's statistics, as the scales of `add_product`, are one for as many columns."""

WARPGROUPS = gl.constexpr(3)
ROWS = gl.constexpr(64)
"""Of a warpgroup."""
WIDTH = gl.constexpr(COLUMNS)
DEPTH = gl.constexpr(64)
"""Of the common dimension, per stage."""
STAGES = gl.constexpr(3)
GROUP = gl.constexpr(16)
"""At most as many blocks of rows are computed side by side, so that they find each other's operands in the L2 cache."""

REGISTERS = gl.constexpr(65536 // (3 * 128) // 8 * 8)
"""Per thread, where three warpgroups share a multiprocessor."""

LOWEST = gl.constexpr(-3.0e38)
INTEGER = gl.constexpr(8388608.0 + 32768.0)
"""A float32 between 2^23 and 2^23 + 2^16 holds an integer of 16 bits in the low bits of its mantissa."""


def can_add_product(gradient: Tensor, hidden: Tensor, out: Tensor) -> bool:
    """Whether `add_product` takes these operands: between the calls, 32 columns of `out` are held together."""
    return have_aligned_rows(gradient, hidden, out) and out.shape[1] % 32 == 0


@gluon.jit
def _place(tile, blocks_m, blocks_n):
    """The block of rows and of columns of a tile: groups of rows as even as can be, each through all columns."""
    most = gl.cdiv(blocks_m, gl.cdiv(blocks_m, GROUP))
    group = tile // (most * blocks_n)
    size = gl.minimum(blocks_m - group * most, most)
    within = tile % (most * blocks_n)
    return group * most + within % size, within // size


@gluon.jit
def _load(operands, buffers, full, step, ahead, sizes, DEPTH_FIRST: gl.constexpr):
    """Asks for the operands of one step, and moves `ahead` (the tile and depth of the step to load) to the next."""
    left, right = operands
    lefts, rights = buffers
    n_depth, blocks_m, blocks_n = sizes
    tile, depth = ahead
    there = tile < blocks_m * blocks_n
    m, n = _place(tile, blocks_m, blocks_n)
    stage = step % STAGES
    arrived = full.index(stage)
    mbarrier.expect(arrived, WARPGROUPS * left.block_type.nbytes + right.block_type.nbytes, pred=there)
    for part in gl.static_range(WARPGROUPS):
        row = (m * WARPGROUPS + part) * ROWS
        place = [depth * DEPTH, row] if DEPTH_FIRST else [row, depth * DEPTH]
        _copy(left, place, arrived, lefts.index(stage * WARPGROUPS + part), there)
    place = [depth * DEPTH, n * WIDTH] if DEPTH_FIRST else [n * WIDTH, depth * DEPTH]
    _copy(right, place, arrived, rights.index(stage), there)
    is_last = depth + 1 == n_depth
    return gl.where(is_last, tile + gl.num_programs(0), tile), gl.where(is_last, 0, depth + 1)


@gluon.jit
def _start(operands, buffers, barriers, sizes, part: gl.constexpr, DEPTH_FIRST: gl.constexpr):
    """Fills all stages but one."""
    ahead = (gl.program_id(0), 0)
    if part == 0:
        for step in gl.static_range(STAGES - 1):
            ahead = _load(operands, buffers, barriers[1], step, ahead, sizes, DEPTH_FIRST)
    return ahead


@gluon.jit
def _multiply(
    total, operands, buffers, barriers, step, ahead, sizes, part: gl.constexpr, DEPTH_FIRST: gl.constexpr
):  # fmt: skip
    """`total += left @ right` over the whole depth, for the rows of one warpgroup."""
    lefts, rights = buffers
    free, full = barriers
    for depth in range(sizes[0]):
        stage = step % STAGES
        mbarrier.wait(full.index(stage), step // STAGES & 1)
        left, right = lefts.index(stage * WARPGROUPS + part), rights.index(stage)
        if DEPTH_FIRST:
            left = left.permute((1, 0))
        else:
            right = right.permute((1, 0))
        total = warpgroup_mma(left, right, total, is_async=True)
        total = warpgroup_mma_wait(1, deps=(total,))
        # The step before has been computed: its stage is the next to be filled.
        following = step + STAGES - 1
        mbarrier.arrive(free.index(following % STAGES), count=1, pred=depth > 0)
        if part == 0:
            mbarrier.wait(free.index(following % STAGES), (following // STAGES & 1) ^ 1, pred=step > 0)
            ahead = _load(operands, buffers, full, following, ahead, sizes, DEPTH_FIRST)
        step += 1
    total = warpgroup_mma_wait(0, deps=(total,))
    mbarrier.arrive(free.index((step + STAGES - 1) % STAGES), count=1)
    return total, step, ahead


@gluon.jit
def _pass_over(barriers, step, sizes):
    """What a warpgroup does for a tile in which it has no rows."""
    free, full = barriers
    for _ in range(sizes[0]):
        mbarrier.wait(full.index(step % STAGES), step // STAGES & 1)
        mbarrier.arrive(free.index(step % STAGES), count=1)
        step += 1
    return step


@gluon.jit
def _buffers(left, right):
    # Gluon has no starred elements.
    lefts = gl.allocate_shared_memory(left.dtype, [STAGES * WARPGROUPS] + left.block_type.shape, left.layout)  # noqa: RUF005
    rights = gl.allocate_shared_memory(right.dtype, [STAGES] + right.block_type.shape, right.layout)  # noqa: RUF005
    return lefts, rights


@gluon.jit
def _barriers():
    """Of each stage: one that all warpgroups have read it, one that its operands are there."""
    free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(free.index(stage), count=WARPGROUPS)
        mbarrier.init(full.index(stage), count=1)
    return free, full


TILE_LAYOUT = gl.constexpr(gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLUMNS, 16]))
QUARTER = gl.constexpr(COLUMNS // 4)
"""What follows a product takes a tile a quarter at a time: registers hold little beside the tile."""
QUARTER_LAYOUT = gl.constexpr(gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLUMNS // 4, 16]))


@gluon.jit
def _quarters(tile):
    """A tile as four of 64 columns each; nothing moves."""
    left, right = tile.reshape((ROWS, 2, WIDTH // 2)).permute((0, 2, 1)).split()
    first, second = left.reshape((ROWS, 2, QUARTER)).permute((0, 2, 1)).split()
    third, fourth = right.reshape((ROWS, 2, QUARTER)).permute((0, 2, 1)).split()
    return (
        gl.convert_layout(first, QUARTER_LAYOUT, assert_trivial=True),
        gl.convert_layout(second, QUARTER_LAYOUT, assert_trivial=True),
        gl.convert_layout(third, QUARTER_LAYOUT, assert_trivial=True),
        gl.convert_layout(fourth, QUARTER_LAYOUT, assert_trivial=True),
    )


@gluon.jit
def _transform(
    logit, columns, last_column, valid_vocab, transform,
    HAS_BIAS: gl.constexpr, HAS_SCALE: gl.constexpr, HAS_SOFTCAP: gl.constexpr,
):  # fmt: skip
    """The z of the loss, -inf from `valid_vocab` on; as in `softmax_kernel.py`."""
    bias_ptr, scale, softcap = transform
    if HAS_BIAS:
        logit += gl.load(bias_ptr + columns, mask=columns < valid_vocab, other=0.0).to(gl.float32)[None, :]
    if HAS_SCALE:
        logit *= scale
    if HAS_SOFTCAP:
        logit = softcap * (2.0 / (1.0 + gl.exp(logit * (-2.0 / softcap))) - 1.0)
    if last_column >= valid_vocab:
        logit = gl.where((columns < valid_vocab)[None, :], logit, float("-inf"))
    return logit


@gluon.jit
def _store_statistics(
    tile, n, first_row, shape, statistics_ptr, transform,
    HAS_BIAS: gl.constexpr, HAS_SCALE: gl.constexpr, HAS_SOFTCAP: gl.constexpr,
):  # fmt: skip
    """The maximum of each row of a tile, and the sum of exp(z - maximum)."""
    n_rows, n_columns, valid_vocab = shape
    highest = gl.full((ROWS,), LOWEST, gl.float32, gl.SliceLayout(1, QUARTER_LAYOUT))
    total = gl.zeros((ROWS,), gl.float32, gl.SliceLayout(1, QUARTER_LAYOUT))
    quarters = _quarters(tile)
    for quarter in gl.static_range(4):
        columns = n * WIDTH + quarter * QUARTER + gl.arange(0, QUARTER, gl.SliceLayout(0, QUARTER_LAYOUT))
        z = _transform(
            quarters[quarter], columns, n * WIDTH + WIDTH - 1, valid_vocab, transform, HAS_BIAS, HAS_SCALE, HAS_SOFTCAP
        )
        before, highest = highest, gl.maximum(highest, gl.max(z, 1))
        total = total * gl.exp(before - highest) + gl.sum(gl.exp(z - highest[:, None]), 1)
    rows = first_row + gl.arange(0, ROWS, gl.SliceLayout(1, QUARTER_LAYOUT))
    blocks = gl.cdiv(n_columns, WIDTH)
    places = statistics_ptr + rows.to(gl.int64) * (2 * blocks) + n
    gl.store(places, highest, mask=rows < n_rows)
    gl.store(places + blocks, total, mask=rows < n_rows)


@gluon.jit
def _statistics_warpgroup(
    operands, buffers, barriers, sizes, shape, statistics_ptr, transform, part: gl.constexpr,
    HAS_BIAS: gl.constexpr, HAS_SCALE: gl.constexpr, HAS_SOFTCAP: gl.constexpr,
):  # fmt: skip
    ahead = _start(operands, buffers, barriers, sizes, part, False)
    step = 0
    for tile in range(gl.program_id(0), sizes[1] * sizes[2], gl.num_programs(0)):
        m, n = _place(tile, sizes[1], sizes[2])
        first_row = (m * WARPGROUPS + part) * ROWS
        if first_row >= shape[0]:
            step = _pass_over(barriers, step, sizes)
        else:
            total = gl.zeros((ROWS, WIDTH), gl.float32, TILE_LAYOUT)
            total, step, ahead = _multiply(total, operands, buffers, barriers, step, ahead, sizes, part, False)
            _store_statistics(total, n, first_row, shape, statistics_ptr, transform, HAS_BIAS, HAS_SCALE, HAS_SOFTCAP)


@gluon.jit(do_not_specialize=["n_rows"])
def _multiply_statistics(
    left, right, statistics_ptr, bias_ptr, scale_ptr, scale, softcap, n_rows, n_columns, valid_vocab, hidden_size,
    HAS_BIAS: gl.constexpr, HAS_SCALE: gl.constexpr, SCALE_IS_TENSOR: gl.constexpr, HAS_SOFTCAP: gl.constexpr,
):  # fmt: skip
    sizes = (gl.cdiv(hidden_size, DEPTH), gl.cdiv(n_rows, ROWS * WARPGROUPS), gl.cdiv(n_columns, WIDTH))
    operands, buffers, barriers = (left, right), _buffers(left, right), _barriers()
    if SCALE_IS_TENSOR:
        scale = gl.load(scale_ptr).to(gl.float32)
    shape, transform = (n_rows, n_columns, valid_vocab), (bias_ptr, scale, softcap)
    gl.warp_specialize(
        [
            (_statistics_warpgroup, (operands, buffers, barriers, sizes, shape, statistics_ptr, transform, 0,
                                     HAS_BIAS, HAS_SCALE, HAS_SOFTCAP)),
            (_statistics_warpgroup, (operands, buffers, barriers, sizes, shape, statistics_ptr, transform, 1,
                                     HAS_BIAS, HAS_SCALE, HAS_SOFTCAP)),
            (_statistics_warpgroup, (operands, buffers, barriers, sizes, shape, statistics_ptr, transform, 2,
                                     HAS_BIAS, HAS_SCALE, HAS_SOFTCAP)),
        ],
        [4, 4],
        [REGISTERS, REGISTERS],
    )  # fmt: skip


WIDE_LAYOUT = gl.constexpr(
    gl.DistributedLinearLayout(
        [[0, 1], [0, 2], [0, 4], [0, 32], [0, 64], [0, 128], [8, 0]],
        [[0, 8], [0, 16], [1, 0], [2, 0], [4, 0]],
        [[16, 0], [32, 0]],
        [],
        [64, COLUMNS],
    )
)
"""Of a tile: eight columns next to each other in one thread, as loads and stores of 16 bytes want them."""


@gluon.jit
def _exchange(tile, layout: gl.constexpr):
    """The columns of a tile in the order in which a thread holds them, so that eight are next to each other, or back.

    Nothing moves: what is stored in this order must be loaded in it.
    """
    tile = tile.reshape((ROWS, WIDTH // 32, 4, 4, 2)).permute((0, 1, 3, 2, 4)).reshape((ROWS, WIDTH))
    return gl.convert_layout(tile, layout, assert_trivial=True)


@gluon.jit
def _sum_warpgroup(
    operands, buffers, barriers, sizes, shape, outputs, part: gl.constexpr, FIRST: gl.constexpr, LAST: gl.constexpr
):  # fmt: skip
    n_rows, n_columns = shape
    sum_ptr, out_ptr, scale_ptr = outputs
    ahead = _start(operands, buffers, barriers, sizes, part, True)
    step = 0
    for tile in range(gl.program_id(0), sizes[1] * sizes[2], gl.num_programs(0)):
        m, n = _place(tile, sizes[1], sizes[2])
        first_row = (m * WARPGROUPS + part) * ROWS
        if first_row >= n_rows:
            step = _pass_over(barriers, step, sizes)
        else:
            rows = first_row + gl.arange(0, ROWS, gl.SliceLayout(1, WIDE_LAYOUT))
            columns = n * WIDTH + gl.arange(0, WIDTH, gl.SliceLayout(0, WIDE_LAYOUT))
            offsets = rows.to(gl.int64)[:, None] * n_columns + columns[None, :]
            inside = (rows < n_rows)[:, None] & (columns < n_columns)[None, :]
            scale_ptrs = scale_ptr + n * n_rows + rows
            if FIRST:
                total = gl.zeros((ROWS, WIDTH), gl.float32, TILE_LAYOUT)
            else:
                scales = gl.load(scale_ptrs, mask=rows < n_rows, other=0.0)
                packed = gl.load(sum_ptr + offsets, mask=inside, other=0)
                bits = packed.to(gl.uint16, bitcast=True).to(gl.int32) | 0x4B000000
                total = _exchange((bits.to(gl.float32, bitcast=True) - INTEGER) * scales[:, None], TILE_LAYOUT)
            total, step, ahead = _multiply(total, operands, buffers, barriers, step, ahead, sizes, part, True)
            if LAST:
                out = total.to(out_ptr.dtype.element_ty)
                gl.store(out_ptr + offsets, gl.convert_layout(out, WIDE_LAYOUT), mask=inside)
            else:
                total = _exchange(total, WIDE_LAYOUT)
                scales = gl.max(gl.abs(total), 1) / 32767.0
                gl.store(scale_ptrs, scales, mask=rows < n_rows)
                total = total * (1.0 / gl.where(scales > 0, scales, 1.0))[:, None] + INTEGER
                packed = total.to(gl.int32, bitcast=True).to(gl.int16)
                gl.store(sum_ptr + offsets, packed, mask=inside)


@gluon.jit(do_not_specialize=["n_tokens", "n_rows"])
def _add_product(
    left, right, sum_ptr, out_ptr, scale_ptr, n_tokens, n_rows, n_columns, FIRST: gl.constexpr, LAST: gl.constexpr
):  # fmt: skip
    sizes = (gl.cdiv(n_tokens, DEPTH), gl.cdiv(n_rows, ROWS * WARPGROUPS), gl.cdiv(n_columns, WIDTH))
    operands, buffers, barriers = (left, right), _buffers(left, right), _barriers()
    shape, outputs = (n_rows, n_columns), (sum_ptr, out_ptr, scale_ptr)
    gl.warp_specialize(
        [
            (_sum_warpgroup, (operands, buffers, barriers, sizes, shape, outputs, 0, FIRST, LAST)),
            (_sum_warpgroup, (operands, buffers, barriers, sizes, shape, outputs, 1, FIRST, LAST)),
            (_sum_warpgroup, (operands, buffers, barriers, sizes, shape, outputs, 2, FIRST, LAST)),
        ],
        [4, 4],
        [REGISTERS, REGISTERS],
    )


def _descriptor(operand: Tensor, block: list[int]) -> TensorDescriptor:
    dtype = gl.bfloat16 if operand.dtype == torch.bfloat16 else gl.float16
    return TensorDescriptor.from_tensor(operand, block, gl.NVMMASharedLayout.get_default_for(block, dtype))


@cache
def _programs(device: torch.device) -> int:
    """One for each multiprocessor."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def statistics_bytes(weight: Tensor) -> int:
    """Bytes of the statistics of one row."""
    return 2 * 4 * triton.cdiv(len(weight), COLUMNS)


def empty_statistics(rows: int, weight: Tensor) -> Tensor:
    """What `multiply_statistics` fills: `(rows, 2, blocks of the vocabulary)` float32."""
    return torch.empty(rows, 2, triton.cdiv(len(weight), COLUMNS), dtype=torch.float32, device=weight.device)


def multiply_statistics(
    hidden: Tensor,
    weight: Tensor,
    statistics: Tensor,
    *,
    bias: Tensor | None = None,
    scale: Tensor | float = 1.0,
    softcap: float | None = None,
    valid_vocab: int,
) -> None:
    """Statistics of what the loss makes of `hidden @ weight.T`, the z of `softmax_kernel.py`, in float32.

    Args:
        hidden: `(rows, H)`, weight: `(V, H)`, with aligned rows (`have_aligned_rows`).
        statistics: `(rows, 2, blocks)` float32, contiguous: over each block of COLUMNS columns the maximum of z, and
            the sum of exp(z - maximum).
    """
    scale_is_tensor = isinstance(scale, Tensor)
    (n_rows, hidden_size), vocabulary = hidden.shape, len(weight)
    _multiply_statistics[(_programs(weight.device),)](
        _descriptor(hidden, [ROWS.value, DEPTH.value]), _descriptor(weight, [WIDTH.value, DEPTH.value]),
        statistics, bias, scale if scale_is_tensor else None, 0.0 if scale_is_tensor else float(scale),
        1.0 if softcap is None else float(softcap), n_rows, vocabulary, valid_vocab, hidden_size,
        HAS_BIAS=bias is not None, HAS_SCALE=scale_is_tensor or scale != 1.0,
        SCALE_IS_TENSOR=scale_is_tensor, HAS_SOFTCAP=softcap is not None, num_warps=4, maxnreg=REGISTERS.value,
    )  # fmt: skip


def add_product(gradient: Tensor, hidden: Tensor, out: Tensor, scales: Tensor, *, first: bool, last: bool) -> None:
    """`exact_product.add_product`, for what `can_add_product` takes."""
    tokens, vocabulary, hidden_size = len(hidden), *out.shape
    _add_product[(_programs(out.device),)](
        _descriptor(gradient, [DEPTH.value, ROWS.value]), _descriptor(hidden, [DEPTH.value, WIDTH.value]),
        out.view(torch.int16), out, scales, tokens, vocabulary, hidden_size, FIRST=first, LAST=last,
        num_warps=4, maxnreg=REGISTERS.value,
    )  # fmt: skip
