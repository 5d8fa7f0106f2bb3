"""The registered operators under `linear_cross_entropy`: opaque to a compiler, one node in its graph.

`LinearCrossEntropy` gives a sum over rows. The gradient of a sum is known up to a factor once the rows' weights
are, so it is computed in the forward, while the logits are there, and the backward hands it on.
`TokenCrossEntropy` gives numbers per row. Their gradient comes later, so its backward computes the logits again.

Shapes: hidden `(N, H)`, weight `(V, H)`, labels `(N,)`, bias and class_weight `(V,)`, scale 0-d. What is not
wanted or needed is an empty tensor, since an operator has a fixed number of outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fusegen.kernels import backends
from fusegen.kernels.derivatives import loop_over_batch
from fusegen.kernels.devices import on
from fusegen.kernels.flops import count_flops
from fusegen.kernels.linear_cross_entropy import tangent
from fusegen.kernels.linear_cross_entropy.problem import Need, RowLoss, Rows, RowWeights, Want
from fusegen.kernels.linear_cross_entropy.rescale import dot, times
from fusegen.kernels.linear_cross_entropy.selection import Selection
from fusegen.kernels.linear_cross_entropy.tangent import Tangents
from fusegen.kernels.operator import Operator, Tensors

IGNORED_TOP1 = -1

FLOAT16_LENGTH = 4.0
"""Length, as a vector, of what multiplies the rows' softmaxes where gradients are held in float16: 4 / sqrt(N) for
each of N equal rows. At N = 16384 a softmax then keeps the digits of its small entries, and the head's gradient, at
most 4 sqrt(N) times the mean hidden state, is in range while that is below 128. A z-loss is not reckoned with: its
usual coefficients, up to 1e-2, add less than the softmax has."""


class LinearCrossEntropy(Operator, name="linear_cross_entropy"):
    """The total of weighted row losses, with its gradients; see `op.linear_cross_entropy` for the arguments.

    need: gradients of hidden, weight, bias, scale. want: entropy, top1. The saved gradients are `unit` times the
    true ones, where it is not empty.
    """

    results = ("total",)
    auxiliary = ("logprob", "lse", "entropy", "top1")
    intermediates = ("grad_hidden", "grad_weight", "grad_bias", "grad_scale", "unit")
    lowered = ("hidden", "weight")
    synchronises = True

    @staticmethod
    def forward_compute(
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        class_weight: Tensor | None,
        token_weight: Tensor | None,
        num_items: Tensor | None,
        ignore_index: int,
        factor: float,
        softcap: float | None,
        valid_vocab: int | None,
        label_smoothing: float,
        z_loss: float,
        mean: bool,
        budget: int | None,
        exact: bool,
        dtype: torch.dtype,
        need: Sequence[bool],
        want: Sequence[bool],
    ) -> tuple[Tensors, Tensors]:
        chosen = Selection(hidden, labels, ignore_index, valid_vocab or len(weight))
        row = _row_loss(scale, factor, softcap, valid_vocab, label_smoothing, z_loss, dtype)
        weights = row_weights(chosen.counted, token_weight, dtype)
        divisor = None if num_items is None else num_items.to(hidden.device, dtype).reshape(())
        if mean and num_items is None:
            divisor = times_class_weights(weights, class_weight, labels).sum()
        by_loss = weights if divisor is None else weights / divisor
        unit = by_loss.new_empty(0)
        if _has_unit(hidden, need):
            unit = _float16_unit(times_class_weights(by_loss, class_weight, labels) * row.scale)
            by_loss = by_loss * unit
        rows = _fused_rows(
            chosen,
            weight,
            bias=bias,
            row=row,
            class_weight=class_weight,
            row_weights=RowWeights(by_loss) if any(need) else RowWeights(),
            need=Need(*need),
            budget=budget,
            exact=exact,
            want=Want(*want),
        )
        total = (chosen.of(weights) * rows.loss).sum()
        total = total if divisor is None else total / divisor
        return (total, *_outputs(chosen, rows)[1:]), (*_gradients(rows, bias, scale), unit)

    @staticmethod
    def forward_fake(hidden: Tensor, weight: Tensor, labels: Tensor, *options: Any) -> tuple[Tensors, Tensors]:
        bias, scale, (dtype, need, want) = options[0], options[1], options[-3:]
        outputs = hidden.new_empty((), dtype=dtype), *_fake_outputs(hidden, want, dtype)[1:]
        unit = hidden.new_empty(() if _has_unit(hidden, need) else 0, dtype=dtype)
        return outputs, (*_fake_gradients(hidden, weight, bias, scale, need, dtype), unit)

    @staticmethod
    def save_context(ctx: Any, inputs: tuple[Any, ...], saved: Tensors) -> None:
        hidden, weight, labels, _, scale, class_weight, _, num_items, *_ = inputs
        ctx.dtype, ctx.need = inputs[-3], inputs[-2]
        # Otherwise autograd makes zeros as large as both gradients, for the outputs that only carry them here.
        ctx.materializes_grads = False
        ctx.save_for_backward(*saved)
        # What linear, a product with the scale, the loss and its division keep.
        for_hidden, for_weight, for_bias, _ = ctx.need
        ctx.watch(hidden if for_weight else None, weight if for_hidden else None, labels, class_weight, num_items)
        ctx.watch(scale if for_hidden or for_weight or for_bias else None)

    @staticmethod
    def backward(ctx: Any, by_total: Tensor | None) -> Tensors:
        if by_total is None:
            return ()
        *gradients, unit = ctx.saved_tensors
        factor = by_total / unit if unit.dim() == 0 else by_total
        hidden, weight, bias, scale = (
            times(gradient, factor, keep=ctx.keeps_saved) if needed else None
            for gradient, needed in zip(gradients, ctx.need, strict=True)
        )
        return hidden, weight, None, bias, scale

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensors:
        *gradients, unit = ctx.saved_tensors
        along = [*tangents[:2], *tangents[3:5]] if tangents else [None] * 4
        found = [dot(g, tangent) for g, tangent in zip(gradients, along, strict=True) if tangent is not None]
        total = torch.stack([each.to(ctx.dtype) for each in found]).sum()
        return ((total / unit if unit.dim() == 0 else total).to(ctx.dtype),)

    @staticmethod
    def flops(hidden: Any, weight: Any, *options: Any) -> int:
        need = options[-2]
        return _product_flops(hidden, weight) * (1 + need[0] + need[1])


class TokenCrossEntropy(Operator, name="token_cross_entropy"):
    """Loss, log-probability and entropy of every row, all three differentiable; 0 where the label is ignored."""

    results = ("loss", "logprob", "entropy")
    auxiliary = ("lse", "top1")
    lowered = ("hidden", "weight")
    synchronises = True

    @staticmethod
    def forward_compute(
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        class_weight: Tensor | None,
        ignore_index: int,
        factor: float,
        softcap: float | None,
        valid_vocab: int | None,
        label_smoothing: float,
        z_loss: float,
        budget: int | None,
        exact: bool,
        dtype: torch.dtype,
        want: Sequence[bool],
    ) -> tuple[Tensors, Tensors]:
        chosen = Selection(hidden, labels, ignore_index, valid_vocab or len(weight))
        rows = _fused_rows(
            chosen,
            weight,
            bias=bias,
            row=_row_loss(scale, factor, softcap, valid_vocab, label_smoothing, z_loss, dtype),
            class_weight=class_weight,
            row_weights=RowWeights(),
            need=Need(),
            budget=budget,
            exact=exact,
            want=Want(*want),
        )
        loss, logprob, lse, entropy, top1 = _outputs(chosen, rows)
        return (loss, logprob, entropy, lse, top1), ()

    @staticmethod
    def forward_fake(hidden: Tensor, weight: Tensor, labels: Tensor, *options: Any) -> tuple[Tensors, Tensors]:
        loss, logprob, lse, entropy, top1 = _fake_outputs(hidden, options[-1], options[-2])
        return (loss, logprob, entropy, lse, top1), ()

    @staticmethod
    def save_context(ctx: Any, inputs: tuple[Any, ...], saved: Tensors) -> None:
        hidden, weight, labels, bias, scale, class_weight = inputs[:6]
        ctx.materializes_grads = False
        # The logits are computed again. What a head adds to them may change in between, since no stock loss keeps it.
        bias = None if bias is None else bias.clone()
        ctx.save_for_backward(hidden, weight, labels, bias, scale, class_weight)
        ctx.options = inputs[6:-1]

    @staticmethod
    def backward(ctx: Any, by_loss: Tensor | None, by_logprob: Tensor | None, by_entropy: Tensor | None) -> Tensors:
        need = [ctx.needs_input_grad[i] for i in (0, 1, 3, 4)]
        by_rows = by_loss, by_logprob, by_entropy
        if all(gradient is None for gradient in by_rows):
            return ()
        gradients = token_cross_entropy_backward(*by_rows, *ctx.saved_tensors, *ctx.options, need)
        hidden, weight, bias, scale = (g if needed else None for g, needed in zip(gradients, need, strict=True))
        return hidden, weight, None, bias, scale

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensors:
        along = [*tangents[:2], *tangents[3:5]] if tangents else [None] * 4
        return token_cross_entropy_jvp(*along, *ctx.saved_tensors, *ctx.options)

    @staticmethod
    def flops(hidden: Any, weight: Any, *options: Any) -> int:
        return _product_flops(hidden, weight)


@torch.library.custom_op("fusegen::token_cross_entropy_backward", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def token_cross_entropy_backward(
    by_loss: Tensor | None,
    by_logprob: Tensor | None,
    by_entropy: Tensor | None,
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    class_weight: Tensor | None,
    ignore_index: int,
    factor: float,
    softcap: float | None,
    valid_vocab: int | None,
    label_smoothing: float,
    z_loss: float,
    budget: int | None,
    exact: bool,
    dtype: torch.dtype,
    need: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of hidden, weight, bias and scale, from those of the three results of `TokenCrossEntropy`."""
    chosen = Selection(hidden, labels, ignore_index, valid_vocab or len(weight))
    rows = _fused_rows(
        chosen,
        weight,
        bias=bias,
        row=_row_loss(scale, factor, softcap, valid_vocab, label_smoothing, z_loss, dtype),
        class_weight=class_weight,
        row_weights=RowWeights(by_loss, by_logprob, by_entropy),
        need=Need(*need),
        budget=budget,
        exact=exact,
        want=Want(),
    )
    return _gradients(rows, bias, scale)


@token_cross_entropy_backward.register_fake
def _(by_loss: Any, by_logprob: Any, by_entropy: Any, *inputs: Any) -> tuple[Tensor, ...]:
    hidden, weight, _, bias, scale, *_, dtype, need = inputs
    return _fake_gradients(hidden, weight, bias, scale, need, dtype)


@torch.library.custom_op("fusegen::token_cross_entropy_jvp", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def token_cross_entropy_jvp(
    by_hidden: Tensor | None,
    by_weight: Tensor | None,
    by_bias: Tensor | None,
    by_scale: Tensor | None,
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    class_weight: Tensor | None,
    ignore_index: int,
    factor: float,
    softcap: float | None,
    valid_vocab: int | None,
    label_smoothing: float,
    z_loss: float,
    budget: int | None,
    exact: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """The derivatives of the three results of `TokenCrossEntropy` along tangents of hidden, weight, bias and scale."""
    chosen = Selection(hidden, labels, ignore_index, valid_vocab or len(weight))
    row = _row_loss(scale, factor, softcap, valid_vocab, label_smoothing, z_loss, dtype)
    if budget is None:
        budget = backends.default_budget(weight.device, len(weight), weight.element_size())
    tangents = Tangents(by_hidden, by_weight, by_bias, by_scale)
    with torch.autocast(weight.device.type, enabled=False), on(weight.device):
        found = tangent.along(tangents, chosen, weight, bias, row, class_weight, budget)
    loss, logprob, entropy = (chosen.spread(each) for each in found)
    return loss, logprob, entropy


@token_cross_entropy_jvp.register_fake
def _(by_hidden: Any, by_weight: Any, by_bias: Any, by_scale: Any, hidden: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    loss, logprob, entropy = (hidden.new_empty(hidden.shape[0], dtype=inputs[-1]) for _ in range(3))
    return loss, logprob, entropy


def _product_flops(hidden: Any, weight: Any) -> int:
    """Of one product with the head, rows whose label is ignored included: the statements it replaces compute them."""
    return 2 * hidden[0] * weight[0] * weight[1]


def _backward_flops(*inputs: Any) -> int:
    need = inputs[-1]
    return _product_flops(inputs[3], inputs[4]) * (1 + need[0] + need[1])


def _jvp_flops(by_hidden: Any, by_weight: Any, by_bias: Any, by_scale: Any, hidden: Any, weight: Any, *_: Any) -> int:
    return _product_flops(hidden, weight) * (1 + (by_hidden is not None) + (by_weight is not None))


for _helper, _flops in ((token_cross_entropy_backward, _backward_flops), (token_cross_entropy_jvp, _jvp_flops)):
    _helper.register_vmap(partial(loop_over_batch, _helper))
    count_flops(_helper._opoverload._opname, _flops)


def _fused_rows(chosen: Selection, weight: Tensor, *, row: RowLoss, budget: int | None, **options: Any) -> Rows:
    """What the backend in force computes, in its default budget where none is given."""
    device = weight.device
    backend = backends.backend_for(device, row.dtype)
    if budget is None:
        budget = backends.default_budget(device, len(weight), weight.element_size())
    with torch.autocast(device.type, enabled=False), on(device):
        return backend.fused_rows(chosen, weight, row=row, budget=budget, **options)


def row_weights(counted: Tensor, token_weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    """What each row's loss is multiplied by, `(N,)`: 0 where it does not count, whatever its token weighs."""
    return counted.to(dtype) if token_weight is None else torch.where(counted, token_weight.to(dtype), 0)


def times_class_weights(weights: Tensor, class_weight: Tensor | None, labels: Tensor) -> Tensor:
    """Each row's weight `(N,)` times that of its label's class; their sum is the divisor of a mean."""
    if class_weight is None:
        return weights
    # A label outside the vocabulary weighs 0 (it is ignored) or stops the device later, with a message.
    by_class = class_weight.to(weights.dtype)[labels.clamp(0, len(class_weight) - 1)]
    return torch.where(weights != 0, weights * by_class, 0)


def _has_unit(hidden: Tensor, need: Sequence[bool]) -> bool:
    return hidden.dtype == torch.float16 and any(need)


def _float16_unit(gradients: Tensor) -> Tensor:
    """What rows are multiplied by so that float16 can hold their gradients, of sizes `(N,)`; 0-d, a power of two.

    A `GradScaler` multiplies the loss for the same end, but its factor is only known in the backward.
    """
    length = torch.linalg.vector_norm(gradients).nan_to_num(0.0, 0.0)
    exponent = torch.frexp(length).exponent.clamp(-100, 100)
    return torch.ldexp(length.new_full((), FLOAT16_LENGTH), -exponent)


def _row_loss(scale: Tensor | None, factor: float, *options: Any) -> RowLoss:
    return RowLoss(factor if scale is None else scale, *options)


def _outputs(chosen: Selection, rows: Rows) -> tuple[Tensor, ...]:
    """Loss, log-probability, log-sum-exp, entropy and top-1 of all rows, ignored ones too."""
    loss, logprob, lse = (chosen.spread(each) for each in (rows.loss, rows.logprob, rows.lse))
    entropy = rows.loss.new_empty(0) if rows.entropy is None else chosen.spread(rows.entropy)
    top1 = lse.new_empty(0, dtype=torch.int64) if rows.top1 is None else chosen.spread(rows.top1, IGNORED_TOP1)
    return loss, logprob, lse, entropy, top1


def _fake_outputs(hidden: Tensor, want: Sequence[bool], dtype: torch.dtype) -> tuple[Tensor, ...]:
    total = hidden.shape[0]  # `len` would make a number of it, and a graph for each
    loss, logprob, lse = (hidden.new_empty(total, dtype=dtype) for _ in range(3))
    entropy = hidden.new_empty(total if want[0] else 0, dtype=dtype)
    return loss, logprob, lse, entropy, hidden.new_empty(total if want[1] else 0, dtype=torch.int64)


def _gradients(rows: Rows, bias: Tensor | None, scale: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    nothing = rows.loss.new_empty
    return (
        nothing(0) if rows.grad_hidden is None else rows.grad_hidden,
        nothing(0) if rows.grad_weight is None else rows.grad_weight,
        nothing(0) if rows.grad_bias is None or bias is None else rows.grad_bias.to(bias.dtype),
        nothing(0) if rows.grad_scale is None or scale is None else rows.grad_scale.to(scale.dtype),
    )


def _fake_gradients(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None, need: Sequence[bool], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    first, second, third, fourth = (
        hidden.new_empty(0, dtype=dtype) if not needed or operand is None else operand.new_empty(tuple(operand.shape))
        for needed, operand in zip(need, (hidden, weight, bias, scale), strict=True)
    )
    return first, second, third, fourth
