"""The `torch` backend: chunks of tokens in plain torch, on any device, in any floating dtype.

One chunk's logits are computed once, turned into that chunk's losses, and then overwritten by their own
gradient (the formula is in `problem.py`). Products for a 16-bit head's gradient and their sum over chunks are float32
and rounded once, as with full logits, so `exact` changes nothing here. The budget holds for everything but that sum:
where there are several chunks, it is as large as two such gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusegen.kernels.linear_cross_entropy.problem import Need, RowLoss, Rows, RowWeights, Want
from fusegen.kernels.linear_cross_entropy.selection import Selection

COPIES = 4
"""Tensors of a chunk's size that live at once; the budget is divided by it."""

FLOOR = -1e4
"""Log-probabilities are cut here where they are multiplied by their exponential, which is 0 in any dtype."""

NO_WANTS = Want()


def fused_rows(
    chosen: Selection,
    weight: Tensor,
    *,
    bias: Tensor | None,
    row: RowLoss,
    class_weight: Tensor | None,
    row_weights: RowWeights,
    need: Need,
    budget: int,
    exact: bool = False,
    want: Want = NO_WANTS,
) -> Rows:
    """Losses and gradients as `problem.py` defines them."""
    columns = len(weight) if row.valid_vocab is None else row.valid_vocab
    head = weight[:columns]
    hidden, labels = chosen.hidden, chosen.labels
    if labels.device.type != "cpu":
        inside = ((labels >= 0) & (labels < columns)).all()
        torch._assert_async(inside, "labels: a label is outside the vocabulary and is not ignore_index")
    offset = None if bias is None else bias[:columns].to(row.dtype)
    classes = None if class_weight is None else class_weight[:columns].to(row.dtype)
    by_rows = (row_weights.loss, row_weights.logprob, row_weights.entropy)
    weights = [None if each is None else chosen.of(each).to(row.dtype) for each in by_rows]
    backward = bool(row_weights)
    need = need if backward else Need()
    parts = slices(len(hidden), chunk_rows(columns, row.dtype, budget))
    totals = _Totals(hidden, weight, need, row, budget, rounded_once=len(parts) == 1)
    chunks: list[tuple[Tensor, ...]] = []
    for part in parts:
        x = (hidden[part] @ head.T).to(row.dtype)
        if offset is not None:
            x += offset
        logits = transformed(x, row, in_place=not need.scale)
        target = labels[part].unsqueeze(1)
        slope = None if row.softcap is None or not backward else 1 - (logits / row.softcap).square()
        # Kept apart: their sum has an error of the size of the largest logit's, which all probabilities would share.
        largest = logits.amax(1, keepdim=True)
        logits -= largest
        log_sum = logits.logsumexp(1, keepdim=True)
        lse = (largest + log_sum).squeeze(1)
        loss = _loss(logits, largest, log_sum, target, classes, row)
        logits -= log_sum
        logprob = logits.gather(1, target).squeeze(1)
        entropy = row_entropy(logits) if want.entropy or row_weights.entropy is not None else lse
        top1 = logits.argmax(1) if want.top1 else target
        chunks.append((loss, lse, logprob, entropy, top1))
        if backward:
            of_part = [None if each is None else each[part] for each in weights]
            gradient = gradient_by_logits(logits, slope, lse, entropy, target, classes, row, *of_part)
            totals.add(part, gradient, x, head)
    loss, lse, logprob, entropy, top1 = (torch.cat(each) for each in zip(*chunks, strict=True))
    return Rows(
        loss,
        lse,
        logprob,
        entropy if want.entropy else None,
        top1 if want.top1 else None,
        None if totals.hidden is None else chosen.spread(totals.hidden),
        None if totals.weight is None else totals.weight.to(weight.dtype),
        totals.bias,
        totals.scale,
    )


def chunk_rows(columns: int, dtype: torch.dtype, budget: int) -> int:
    """Tokens in a chunk, at least one."""
    return max(1, budget // (COPIES * dtype.itemsize * columns))


def slices(length: int, size: int) -> list[slice]:
    """Cuts of `length` into `size`; one empty cut where there is nothing."""
    return [slice(start, start + size) for start in range(0, max(length, 1), size)]


def transformed(x: Tensor, row: RowLoss, in_place: bool) -> Tensor:
    logits = x if in_place else x.clone()
    if isinstance(row.scale, Tensor) or row.scale != 1:
        logits *= row.scale
    if row.softcap is not None:
        logits = logits.div_(row.softcap).tanh_().mul_(row.softcap)
    return logits


def row_entropy(logprobs: Tensor) -> Tensor:
    return -(logprobs.exp() * logprobs.clamp(min=FLOOR)).sum(1)


def _loss(
    shifted: Tensor, largest: Tensor, log_sum: Tensor, target: Tensor, classes: Tensor | None, row: RowLoss
) -> Tensor:
    """The loss of each row, from its logits less the largest of them."""
    logprob = shifted.gather(1, target) - log_sum
    loss = -logprob if classes is None else -logprob * classes[target]
    if row.label_smoothing:
        if classes is None:
            smooth = log_sum - shifted.mean(1, keepdim=True)
        else:
            smooth = (log_sum * classes.sum() - (shifted @ classes).unsqueeze(1)) / shifted.shape[1]
        loss = (1 - row.label_smoothing) * loss + row.label_smoothing * smooth
    if row.z_loss:
        loss = loss + row.z_loss * (largest + log_sum).square()
    return loss.squeeze(1)


def gradient_by_logits(
    logprobs: Tensor,
    slope: Tensor | None,
    lse: Tensor,
    entropy: Tensor,
    target: Tensor,
    classes: Tensor | None,
    row: RowLoss,
    row_weight: Tensor | None,
    logprob_weight: Tensor | None,
    entropy_weight: Tensor | None,
) -> Tensor:
    """The gradient by the scaled logits before the soft cap, whose `slope` it is; overwrites `logprobs`."""
    columns = logprobs.shape[1]
    probabilities = logprobs.exp() if entropy_weight is not None else logprobs.exp_()
    a = torch.zeros_like(lse)
    b = torch.zeros_like(lse)
    if row_weight is not None:
        b = row_weight * (1 - row.label_smoothing)
        b = b if classes is None else b * classes[target.squeeze(1)]
        mass = 1.0 if classes is None else classes.sum() / columns
        a = b + row_weight * (row.label_smoothing * mass + 2 * row.z_loss * lse)
    if logprob_weight is not None:
        a, b = a - logprob_weight, b - logprob_weight
    if entropy_weight is not None:
        bent = logprobs.clamp_(min=FLOOR).add_(entropy.unsqueeze(1))
        gradient = probabilities.mul_(bent.mul_(-entropy_weight.unsqueeze(1)).add_(a.unsqueeze(1)))
    else:
        gradient = probabilities.mul_(a.unsqueeze(1))
    rows = torch.arange(len(gradient), device=gradient.device)
    gradient[rows, target.squeeze(1)] -= b
    if row.label_smoothing and row_weight is not None:
        c = (row_weight * (row.label_smoothing / columns)).unsqueeze(1)
        gradient -= c if classes is None else c * classes
    return gradient if slope is None else gradient.mul_(slope)


class _Totals:
    """Gradients in the making: of hidden states row by row, of parameters summed over the chunks."""

    def __init__(
        self, hidden: Tensor, weight: Tensor, need: Need, row: RowLoss, budget: int, rounded_once: bool
    ) -> None:
        wide = weight.dtype if rounded_once else torch.promote_types(weight.dtype, torch.float32)
        self.slab = max(1, budget // (COPIES * max(1, weight.shape[1]) * weight.element_size()))
        self.states, self.row_scale = hidden, row.scale
        self.hidden = torch.empty_like(hidden, memory_format=torch.contiguous_format) if need.hidden else None
        self.weight = torch.zeros(weight.shape, dtype=wide, device=weight.device) if need.weight else None
        self.bias = torch.zeros(len(weight), dtype=row.dtype, device=weight.device) if need.bias else None
        self.scale = torch.zeros((), dtype=row.dtype, device=weight.device) if need.scale else None

    def add(self, part: slice, gradient: Tensor, x: Tensor, head: Tensor) -> None:
        """`gradient` and `x` are `(rows, columns)`: by the scaled logits, and the logits before the scale."""
        columns = len(head)
        if self.scale is not None:
            self.scale += (gradient * x).sum()
        if isinstance(self.row_scale, Tensor) or self.row_scale != 1:
            gradient *= self.row_scale
        if self.bias is not None:
            self.bias[:columns] += gradient.sum(0)
        if self.hidden is None and self.weight is None:
            return
        narrow = gradient.to(head.dtype)
        if self.hidden is not None:
            torch.mm(narrow, head, out=self.hidden[part])
        if self.weight is not None and self.weight.dtype == head.dtype:
            self.weight[:columns].addmm_(narrow.T, self.states[part])
        elif self.weight is not None:
            for slab in slices(columns, self.slab):
                _add_product(self.weight[:columns][slab], narrow[:, slab].T, self.states[part])


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """`total += left @ right` in float32, of 16-bit operands."""
    if left.is_cuda:
        torch.addmm(total, left, right, out_dtype=torch.float32, out=total)
    else:
        total.addmm_(left.float(), right.float())
