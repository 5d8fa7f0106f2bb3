"""The Triton kernel of `linear_cross_entropy`: the softmax over a buffer of logits, and its gradient in place.

`softmax_rows` reads a buffer of logits `(rows, columns)`, a chunk of tokens by the whole vocabulary or by a
slab of it, and turns each row into its loss and, in place, into the gradient of that loss. Per row, over
the first `valid_vocab` columns v with label y (https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html):

    x_v  = logit_v + bias_v,  z_v = x_v * scale,  with a soft cap: z_v = softcap * tanh(x_v * scale / softcap)
    lse  = log sum_v exp(z_v)                                     one pass, running maximum and sum
    loss = (1 - smoothing) c_y (lse - z_y) + smoothing / V sum_v c_v (lse - z_v) + z_loss lse^2

The gradient is that of the weighted sum of losses, log-probabilities and entropies in `problem.py`.

A function of the forward stands beside its gradient. Nothing here is particular to one vendor.
"""

# What Triton compiles has no Python types: its arguments are pointers, scalars and blocks.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

STATES = 4
"""Floats per row between two slabs: the maximum, and the sums of exp(z), c z and exp(z) z."""

PER_GROUP = 8
"""Columns next to each other in one lane: what it loads at once."""

LANES_PER_WARP = 64 if torch.version.hip else 32
MOST_LANES = 1024
"""What every vendor's device can run in one program."""

_LOWEST = tl.constexpr(-3.0e38)


@dataclass(frozen=True)
class Flags:
    """What `softmax_rows` does with a buffer. A slab is `first` and `last` where it is the whole vocabulary."""

    statistics: bool = True
    gradient: bool = False
    first: bool = True
    last: bool = True


@triton.jit
def _transform(logit, bias, scale, softcap, HAS_SCALE: tl.constexpr, HAS_SOFTCAP: tl.constexpr):
    """The z of the loss, and x = logit + bias."""
    x = logit + bias
    z = x * scale if HAS_SCALE else x
    if HAS_SOFTCAP:
        z = softcap * (2.0 * tl.sigmoid(2.0 * z / softcap) - 1.0)
    return z, x


@triton.jit
def _transform_gradient(gradient, z, x, scale, softcap, HAS_SCALE: tl.constexpr, HAS_SOFTCAP: tl.constexpr):
    """From d/dz: d/dx, and this entry's part of d/dscale."""
    if HAS_SOFTCAP:
        ratio = z / softcap
        gradient = gradient * (1.0 - ratio * ratio)
    of_scale = gradient * x
    if HAS_SCALE:
        gradient = gradient * scale
    return gradient, of_scale


@triton.jit
def _load_block(
    row_ptr, bias_ptr, columns, first_column, limit, scale, softcap,
    HAS_BIAS: tl.constexpr, HAS_SCALE: tl.constexpr, HAS_SOFTCAP: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """z and x of some columns; beyond `limit` z is -inf. Only the tail is masked: the rest loads 16 bytes at a time."""
    if MASKED:
        logit = tl.load(row_ptr + columns, mask=columns < limit, other=0.0).to(tl.float32)
    else:
        logit = tl.load(row_ptr + columns, eviction_policy="evict_last").to(tl.float32)
    bias = 0.0
    if HAS_BIAS:
        bias = tl.load(bias_ptr + first_column + columns, mask=columns < limit, other=0.0).to(tl.float32)
    z, x = _transform(logit, bias, scale, softcap, HAS_SCALE, HAS_SOFTCAP)
    if MASKED:
        z = tl.where(columns < limit, z, float("-inf"))
    return z, x


@triton.jit
def _add_statistics(
    maximum, total, weighted, product, best, z, columns, first_column, limit, class_weight_ptr,
    GROUPS: tl.constexpr, PER_GROUP: tl.constexpr, HAS_CLASS_WEIGHT: tl.constexpr, HAS_SMOOTHING: tl.constexpr,
    WANT_ENTROPY: tl.constexpr, WANT_TOP1: tl.constexpr,
):  # fmt: skip
    """Per group of columns that one lane holds, so that no lane waits for another: the running maximum, sum of
    exponentials, weighted sum, sum of exponentials times z, and best column."""
    z = tl.reshape(z, (GROUPS, PER_GROUP))
    highest = tl.max(z, 1)
    if WANT_TOP1:
        places = tl.reshape(columns, (GROUPS, PER_GROUP))
        where = tl.min(tl.where(z == highest[:, None], places, 2147483647), 1)
        best = tl.where(highest > maximum, first_column + where, best)
    new_maximum = tl.maximum(maximum, highest)
    shrink = tl.exp(maximum - new_maximum)
    exponentials = tl.exp(z - new_maximum[:, None])
    total = total * shrink + tl.sum(exponentials, 1)
    if WANT_ENTROPY:
        product = product * shrink + tl.sum(tl.where(exponentials > 0, exponentials * z, 0.0), 1)
    if HAS_SMOOTHING:
        inside = tl.reshape(columns < limit, (GROUPS, PER_GROUP))
        if HAS_CLASS_WEIGHT:
            classes = tl.load(class_weight_ptr + first_column + columns, mask=columns < limit, other=0.0)
            z *= tl.reshape(classes, (GROUPS, PER_GROUP))
        weighted += tl.sum(tl.where(inside, z, 0.0), 1)
    return new_maximum, total, weighted, product, best


@triton.jit
def _statistics(
    row_ptr, bias_ptr, class_weight_ptr, scale, softcap, first_column, limit,
    HAS_BIAS: tl.constexpr, HAS_SCALE: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_CLASS_WEIGHT: tl.constexpr,
    HAS_SMOOTHING: tl.constexpr, WANT_ENTROPY: tl.constexpr, WANT_TOP1: tl.constexpr,
    BLOCK: tl.constexpr, FULL_STEPS: tl.constexpr, STEPS: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """Of one row: the maximum, the sums of exp(z - maximum), c z and exp(z - maximum) z, and the best column."""
    GROUPS: tl.constexpr = BLOCK // PER_GROUP
    lanes = tl.arange(0, BLOCK)
    maximum = tl.full((GROUPS,), _LOWEST, tl.float32)
    total, weighted, product = tl.zeros_like(maximum), tl.zeros_like(maximum), tl.zeros_like(maximum)
    best = tl.zeros((GROUPS,), tl.int32)
    for step in tl.range(0, FULL_STEPS):
        columns = step * BLOCK + lanes
        z, _ = _load_block(
            row_ptr, bias_ptr, columns, first_column, limit, scale, softcap, HAS_BIAS, HAS_SCALE, HAS_SOFTCAP, False
        )
        maximum, total, weighted, product, best = _add_statistics(
            maximum, total, weighted, product, best, z, columns, first_column, limit, class_weight_ptr,
            GROUPS, PER_GROUP, HAS_CLASS_WEIGHT, HAS_SMOOTHING, WANT_ENTROPY, WANT_TOP1,
        )  # fmt: skip
    for step in tl.range(FULL_STEPS, STEPS):
        columns = step * BLOCK + lanes
        z, _ = _load_block(
            row_ptr, bias_ptr, columns, first_column, limit, scale, softcap, HAS_BIAS, HAS_SCALE, HAS_SOFTCAP, True
        )
        maximum, total, weighted, product, best = _add_statistics(
            maximum, total, weighted, product, best, z, columns, first_column, limit, class_weight_ptr,
            GROUPS, PER_GROUP, HAS_CLASS_WEIGHT, HAS_SMOOTHING, WANT_ENTROPY, WANT_TOP1,
        )  # fmt: skip
    highest = tl.max(maximum, 0)
    shrink = tl.exp(maximum - highest)
    first_best = tl.min(tl.where(maximum == highest, best, 2147483647), 0)
    return highest, tl.sum(total * shrink, 0), tl.sum(weighted, 0), tl.sum(product * shrink, 0), first_best


@triton.jit
def _join_statistics(statistics_ptr, n_blocks, BLOCKS: tl.constexpr):
    """Of one row, from those of its blocks of columns: the maximum, and the sum of exp(z - maximum)."""
    block = tl.arange(0, BLOCKS)
    maxima = tl.load(statistics_ptr + block, mask=block < n_blocks, other=_LOWEST)
    totals = tl.load(statistics_ptr + n_blocks + block, mask=block < n_blocks, other=0.0)
    highest = tl.max(maxima, 0)
    return highest, tl.sum(totals * tl.exp(maxima - highest), 0)


@triton.jit
def _store_gradient(
    row_ptr, z, x, columns, first_column, limit, n_columns, label, lse, entropy, of_softmax, of_class,
    of_entropy, class_weight_ptr, scale, softcap, HAS_CLASS_WEIGHT: tl.constexpr, HAS_SMOOTHING: tl.constexpr,
    HAS_SCALE: tl.constexpr, HAS_SOFTCAP: tl.constexpr, HAS_ENTROPY_WEIGHT: tl.constexpr, WANT_SCALE: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """Overwrites some columns by d(total)/d(logit) as if none were the label's.

    Returns their part of d(total)/d(scale), without the label's.
    """
    gradient = _softmax_gradient(z, lse, entropy, of_softmax, of_entropy, HAS_ENTROPY_WEIGHT)
    if HAS_SMOOTHING:
        if HAS_CLASS_WEIGHT:
            classes = tl.load(class_weight_ptr + first_column + columns, mask=columns < limit, other=0.0)
            gradient -= of_class * classes
        else:
            gradient -= of_class
    if MASKED:
        z = tl.where(columns < limit, z, 0.0)
    gradient, of_scale = _transform_gradient(gradient, z, x, scale, softcap, HAS_SCALE, HAS_SOFTCAP)
    if MASKED:
        gradient = tl.where(columns < limit, gradient, 0.0)
        tl.store(row_ptr + columns, gradient.to(row_ptr.dtype.element_ty), mask=columns < n_columns)
    else:
        tl.store(row_ptr + columns, gradient.to(row_ptr.dtype.element_ty), eviction_policy="evict_first")
    if WANT_SCALE:
        others = (columns < limit) & (first_column + columns != label)
        return tl.sum(tl.where(others, of_scale, 0.0), 0)
    return 0.0


@triton.jit
def _softmax_gradient(z, lse, entropy, of_softmax, of_entropy, HAS_ENTROPY_WEIGHT: tl.constexpr):
    """p (a - g_H (log p + H)) of the formula in `problem.py`."""
    probability = tl.exp(z - lse)
    gradient = of_softmax * probability
    if HAS_ENTROPY_WEIGHT:
        # A probability of 0 has a logarithm of -inf, and counts for nothing.
        gradient -= tl.where(probability > 0, of_entropy * probability * (z - lse + entropy), 0.0)
    return gradient


@triton.jit(do_not_specialize=["n_rows"])
def _softmax_rows(
    logits_ptr, row_stride, statistics_ptr, labels_ptr, bias_ptr, class_weight_ptr, class_weight_total_ptr,
    loss_weight_ptr, logprob_weight_ptr, entropy_weight_ptr, scale_ptr,
    state_ptr, label_logit_ptr, loss_ptr, lse_ptr, logprob_ptr, entropy_ptr, top1_ptr, scale_gradient_ptr,
    scale_number, softcap, label_smoothing, z_loss, n_rows, first_column, n_columns, valid_vocab, n_blocks,
    BLOCKS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_SCALE: tl.constexpr, SCALE_IS_TENSOR: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr, HAS_CLASS_WEIGHT: tl.constexpr, HAS_SMOOTHING: tl.constexpr, HAS_Z_LOSS: tl.constexpr,
    HAS_LOSS_WEIGHT: tl.constexpr, HAS_LOGPROB_WEIGHT: tl.constexpr, HAS_ENTROPY_WEIGHT: tl.constexpr,
    WANT_ENTROPY: tl.constexpr, WANT_TOP1: tl.constexpr, WANT_SCALE: tl.constexpr,
    STATISTICS: tl.constexpr, GRADIENT: tl.constexpr, FIRST: tl.constexpr, LAST: tl.constexpr,
    BLOCK: tl.constexpr, FULL_STEPS: tl.constexpr, STEPS: tl.constexpr, PER_GROUP: tl.constexpr,
):  # fmt: skip
    """One row per program; see the module's docstring for the formulas."""
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels_ptr + row)
    if BLOCKS == 0:
        row_ptr = logits_ptr + row * row_stride
    limit = tl.minimum(n_columns, valid_vocab - first_column)
    label_here = (label >= first_column) & (label < first_column + limit)
    scale = scale_number
    if SCALE_IS_TENSOR:
        scale = tl.load(scale_ptr).to(tl.float32)
    label_z, label_x = 0.0, 0.0
    if label_here:
        if BLOCKS > 0:
            logit = tl.load(label_logit_ptr + row)
        else:
            logit = tl.load(row_ptr + (label - first_column)).to(tl.float32)
        bias = 0.0
        if HAS_BIAS:
            bias = tl.load(bias_ptr + label).to(tl.float32)
        label_z, label_x = _transform(logit, bias, scale, softcap, HAS_SCALE, HAS_SOFTCAP)
    if GRADIENT and not STATISTICS:
        # Every warp must have read the label's logit before one overwrites it; the sums of the statistics wait as well.
        tl.debug_barrier()

    # Class weights of the label and of all classes: c_y and sum_v c_v.
    label_weight, all_weights = 1.0, 1.0 * valid_vocab
    if HAS_CLASS_WEIGHT:
        known = (label >= 0) & (label < valid_vocab)
        label_weight = tl.load(class_weight_ptr + label, mask=known, other=0.0)
        all_weights = tl.load(class_weight_total_ptr)
    spread = label_smoothing / valid_vocab

    entropy = 0.0
    if STATISTICS:
        if BLOCKS > 0:
            weighted, product, best = 0.0, 0.0, tl.full((), 0, tl.int32)
            maximum, total = _join_statistics(statistics_ptr + row * 2 * n_blocks, n_blocks, BLOCKS)
        else:
            maximum, total, weighted, product, best = _statistics(
                row_ptr, bias_ptr, class_weight_ptr, scale, softcap, first_column, limit,
                HAS_BIAS, HAS_SCALE, HAS_SOFTCAP, HAS_CLASS_WEIGHT, HAS_SMOOTHING, WANT_ENTROPY, WANT_TOP1,
                BLOCK, FULL_STEPS, STEPS, PER_GROUP,
            )  # fmt: skip
        label_logit = label_z
        if not FIRST:
            earlier = tl.load(state_ptr + row)
            if WANT_TOP1:
                best = tl.where(maximum > earlier, best, tl.load(top1_ptr + row).to(tl.int32))
            highest = tl.maximum(maximum, earlier)
            shrink, earlier_shrink = tl.exp(maximum - highest), tl.exp(earlier - highest)
            total = total * shrink + tl.load(state_ptr + row + n_rows) * earlier_shrink
            weighted += tl.load(state_ptr + row + 2 * n_rows)
            product = product * shrink + tl.load(state_ptr + row + 3 * n_rows) * earlier_shrink
            maximum = highest
            label_logit += tl.load(label_logit_ptr + row)
        if WANT_TOP1:
            tl.store(top1_ptr + row, best.to(tl.int64))
        lse = maximum + tl.log(total)
        if LAST:
            loss = (1.0 - label_smoothing) * label_weight * (lse - label_logit)
            if HAS_SMOOTHING:
                loss += spread * (all_weights * lse - weighted)
            if HAS_Z_LOSS:
                loss += z_loss * lse * lse
            tl.store(loss_ptr + row, loss)
            tl.store(lse_ptr + row, lse)
            tl.store(logprob_ptr + row, label_logit - lse)
            entropy = lse - product / total
            if WANT_ENTROPY:
                tl.store(entropy_ptr + row, entropy)
        else:
            tl.store(state_ptr + row, maximum)
            tl.store(state_ptr + row + n_rows, total)
            tl.store(state_ptr + row + 2 * n_rows, weighted)
            tl.store(state_ptr + row + 3 * n_rows, product)
            tl.store(label_logit_ptr + row, label_logit)
    else:
        lse = tl.load(lse_ptr + row)
        if HAS_ENTROPY_WEIGHT:
            entropy = tl.load(entropy_ptr + row)

    if GRADIENT:
        of_label = (1.0 - label_smoothing) * label_weight
        of_softmax = of_label
        if HAS_SMOOTHING:
            of_softmax += spread * all_weights
        if HAS_Z_LOSS:
            of_softmax += 2.0 * z_loss * lse
        loss_weight = 0.0
        if HAS_LOSS_WEIGHT:
            loss_weight = tl.load(loss_weight_ptr + row)
        of_softmax *= loss_weight
        of_label *= loss_weight
        of_class = spread * loss_weight
        if HAS_LOGPROB_WEIGHT:
            logprob_weight = tl.load(logprob_weight_ptr + row)
            of_softmax -= logprob_weight
            of_label -= logprob_weight
        of_entropy = 0.0
        if HAS_ENTROPY_WEIGHT:
            of_entropy = tl.load(entropy_weight_ptr + row)
        lanes = tl.arange(0, BLOCK)
        # Backwards: the columns that the first pass read last are still in the cache.
        scale_gradient = 0.0
        for step in tl.range(FULL_STEPS, STEPS):
            columns = step * BLOCK + lanes
            z, x = _load_block(
                row_ptr, bias_ptr, columns, first_column, limit, scale, softcap, HAS_BIAS, HAS_SCALE, HAS_SOFTCAP, True
            )
            scale_gradient += _store_gradient(
                row_ptr, z, x, columns, first_column, limit, n_columns, label, lse, entropy, of_softmax, of_class,
                of_entropy, class_weight_ptr, scale, softcap, HAS_CLASS_WEIGHT, HAS_SMOOTHING, HAS_SCALE, HAS_SOFTCAP,
                HAS_ENTROPY_WEIGHT, WANT_SCALE, True,
            )  # fmt: skip
        for step in tl.range(0, FULL_STEPS):
            columns = (FULL_STEPS - 1 - step) * BLOCK + lanes
            z, x = _load_block(
                row_ptr, bias_ptr, columns, first_column, limit, scale, softcap, HAS_BIAS, HAS_SCALE, HAS_SOFTCAP, False
            )
            scale_gradient += _store_gradient(
                row_ptr, z, x, columns, first_column, limit, n_columns, label, lse, entropy, of_softmax, of_class,
                of_entropy, class_weight_ptr, scale, softcap, HAS_CLASS_WEIGHT, HAS_SMOOTHING, HAS_SCALE, HAS_SOFTCAP,
                HAS_ENTROPY_WEIGHT, WANT_SCALE, False,
            )  # fmt: skip
        if label_here:
            gradient = _softmax_gradient(label_z, lse, entropy, of_softmax, of_entropy, HAS_ENTROPY_WEIGHT) - of_label
            if HAS_SMOOTHING:
                gradient -= of_class * label_weight
            gradient, of_scale = _transform_gradient(gradient, label_z, label_x, scale, softcap, HAS_SCALE, HAS_SOFTCAP)
            scale_gradient += of_scale
            # The label's column is stored twice; the second must come last.
            tl.debug_barrier()
            tl.store(row_ptr + (label - first_column), gradient.to(row_ptr.dtype.element_ty))
        if WANT_SCALE:
            if not FIRST:
                scale_gradient += tl.load(scale_gradient_ptr + row)
            tl.store(scale_gradient_ptr + row, scale_gradient)


def softmax_rows(
    logits: Tensor | None,
    labels: Tensor,
    outputs: dict[str, Tensor | None],
    *,
    flags: Flags,
    statistics: Tensor | None = None,
    scale: Tensor | float = 1.0,
    softcap: float | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    valid_vocab: int,
    first_column: int = 0,
    bias: Tensor | None = None,
    class_weight: Tensor | None = None,
    class_weight_total: Tensor | None = None,
    loss_weight: Tensor | None = None,
    logprob_weight: Tensor | None = None,
    entropy_weight: Tensor | None = None,
) -> None:
    """Fills `outputs` for the rows of `logits`, and with `flags.gradient` overwrites them by d(total)/d(logits).

    Args:
        logits: `(rows, columns)`, columns `first_column ...` of the vocabulary, any floating dtype, inner stride 1.
            None: losses without smoothing, from `statistics`; the labels' own logits are in `label_logit`.
        labels: `(rows,)` int64, in the whole vocabulary.
        outputs: `loss`, `lse`, `logprob`, each `(rows,)` float32; `entropy` float32, `top1` int64, `scale` float32
            (this row's part of d(total)/d(scale)) or None; between slabs also `state` `(STATES, rows)` and
            `label_logit` `(rows,)`, float32. Without `flags.statistics` the log-sum-exp is read from `lse`, and the
            entropy, where its weight is given, from `entropy`.
        statistics: `(rows, 2, blocks)` float32, contiguous: by blocks of columns the maximum of z and the sum of
            exp(z - maximum); in the place of logits.
        class_weight_total: the sum of the first `valid_vocab` class weights, on the device.
        loss_weight, logprob_weight, entropy_weight: `(rows,)` float32, d(total)/d(what the row gives).
    """
    rows, columns = len(labels), valid_vocab if logits is None else logits.shape[1]
    if rows == 0:
        return
    n_blocks = 0 if statistics is None else statistics.shape[2]
    scale_is_tensor = isinstance(scale, Tensor)
    block, warps = _softmax_block(columns, flags.gradient)
    _softmax_rows[(rows,)](
        logits, 0 if logits is None else logits.stride(0), statistics, labels, bias, class_weight, class_weight_total,
        loss_weight, logprob_weight, entropy_weight,
        scale if scale_is_tensor else None,
        outputs.get("state"), outputs.get("label_logit"), outputs["loss"], outputs["lse"], outputs["logprob"],
        outputs.get("entropy"), outputs.get("top1"), outputs.get("scale"),
        0.0 if scale_is_tensor else float(scale), 1.0 if softcap is None else float(softcap),
        float(label_smoothing), float(z_loss),
        rows, first_column, columns, valid_vocab, n_blocks,
        BLOCKS=triton.next_power_of_2(n_blocks) if n_blocks else 0, HAS_BIAS=bias is not None,
        HAS_SCALE=scale_is_tensor or scale != 1.0, SCALE_IS_TENSOR=scale_is_tensor,
        HAS_SOFTCAP=softcap is not None, HAS_CLASS_WEIGHT=class_weight is not None,
        HAS_SMOOTHING=label_smoothing != 0.0, HAS_Z_LOSS=z_loss != 0.0,
        HAS_LOSS_WEIGHT=loss_weight is not None, HAS_LOGPROB_WEIGHT=logprob_weight is not None,
        HAS_ENTROPY_WEIGHT=entropy_weight is not None,
        WANT_ENTROPY=outputs.get("entropy") is not None, WANT_TOP1=outputs.get("top1") is not None,
        WANT_SCALE=outputs.get("scale") is not None,
        STATISTICS=flags.statistics, GRADIENT=flags.gradient, FIRST=flags.first, LAST=flags.last,
        BLOCK=block, FULL_STEPS=max(0, min(columns, valid_vocab - first_column)) // block,
        STEPS=triton.cdiv(columns, block), PER_GROUP=PER_GROUP, num_warps=warps,
    )  # fmt: skip


def _softmax_block(columns: int, gradient: bool) -> tuple[int, int]:
    """Columns per step and warps: 16 columns per lane, the fastest of those measured on an H200.

    Where a second pass follows, the widest block leaves room for one row per multiprocessor, so that the pass still
    finds it in the cache; a single pass reads fastest with many rows at once.
    """
    widest = 4096 if not gradient else MOST_LANES * 16 if columns > 65536 else 8192
    block = min(widest, max(256, triton.next_power_of_2(columns)))
    return block, max(1, block // 16 // LANES_PER_WARP)


@triton.jit
def _label_logits(
    hidden_ptr, hidden_stride, weight_ptr, weight_stride, labels_ptr, out_ptr, vocabulary, hidden_size,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels_ptr + row)
    products = tl.zeros((BLOCK,), tl.float32)
    if (label >= 0) & (label < vocabulary):
        for start in range(0, hidden_size, BLOCK):
            places = start + tl.arange(0, BLOCK)
            hidden = tl.load(hidden_ptr + row * hidden_stride + places, mask=places < hidden_size, other=0.0)
            weight = tl.load(weight_ptr + label * weight_stride + places, mask=places < hidden_size, other=0.0)
            products += hidden.to(tl.float32) * weight.to(tl.float32)
    tl.store(out_ptr + row, tl.sum(products, 0))


def label_logits(hidden: Tensor, weight: Tensor, labels: Tensor, out: Tensor) -> None:
    """Fills `out` `(rows,)` float32 with `hidden[row] @ weight[labels[row]]`; rows of both with inner stride 1."""
    if len(labels):
        _label_logits[(len(labels),)](
            hidden, hidden.stride(0), weight, weight.stride(0), labels, out, *weight.shape, BLOCK=1024
        )


@triton.jit(debug=True)
def _check_labels(labels_ptr, counted_ptr, n_labels, valid_vocab, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    labels = tl.load(labels_ptr + index, mask=index < n_labels, other=0)
    counted = tl.load(counted_ptr + index, mask=index < n_labels, other=0)
    inside = (labels >= 0) & (labels < valid_vocab) | (counted == 0)
    tl.device_assert(inside, "linear_cross_entropy: a label is outside the vocabulary and is not ignore_index")


def check_labels(labels: Tensor, counted: Tensor, valid_vocab: int) -> None:
    """Stops the device with a readable message where a label `(N,)` that counts is outside `[0, valid_vocab)`."""
    if labels.numel():
        _check_labels[(triton.cdiv(labels.numel(), 1024),)](labels, counted, labels.numel(), valid_vocab, BLOCK=1024)
