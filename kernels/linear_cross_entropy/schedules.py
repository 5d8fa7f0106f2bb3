"""How `linear_cross_entropy` walks over tokens and vocabulary so that the logits fit into a budget of bytes.

    token chunks      logits = chunk @ weight.T -> softmax in place -> dX = logits @ weight, dW += logits.T @ chunk
    vocabulary slabs  statistics of all slabs first; then, slab by slab, the logits again (as many as the budget
                      holds are kept), dW of the slab in one product, dX summed in float32

The schedule follows from sizes, dtype and budget alone. Products run in the vendor's library, the softmax
in `triton_kernels.py`. Between token chunks the gradient of the head is rounded to its dtype, unless
`exact` is asked for: then it is held with sixteen bits in the gradient's own memory (`add_product`) and
rounded once, as with full logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fusegen.kernels.linear_cross_entropy import triton_kernels
from fusegen.kernels.linear_cross_entropy.problem import Need, RowLoss, Rows, Want
from fusegen.kernels.linear_cross_entropy.triton_kernels import Flags

DEFAULT_TOKENS = 2048
"""Tokens whose logits the default budget holds: products of this many rows run at full speed."""

FEWEST_TOKENS = 256
"""A chunk of fewer tokens keeps the matrix units waiting for the head: slabs with recomputation are faster."""


NOTHING_MORE = Want()


@dataclass(frozen=True)
class Schedule:
    """The walk over N rows and V columns.

    tokens: rows per chunk; N with vocabulary slabs. columns: columns per slab; V with token chunks.
    kept: slabs whose logits stay from the statistics to the gradients; the others are computed twice.
    """

    tokens: int
    columns: int
    kept: int = 0


def default_budget(vocabulary: int, element_size: int) -> int:
    """Bytes of the logits of `DEFAULT_TOKENS` tokens."""
    return DEFAULT_TOKENS * _padded(vocabulary) * element_size


def choose_schedule(
    n_rows: int,
    vocabulary: int,
    hidden_size: int,
    *,
    element_size: int,
    budget: int,
    gradients: bool,
    whole_slabs: bool,
) -> Schedule:
    """The schedule for `budget` bytes beyond the gradients. `whole_slabs`: the head's gradient in one product each."""
    fitting = budget // (_padded(vocabulary) * element_size)
    if fitting >= n_rows:
        return Schedule(n_rows, vocabulary)
    if fitting >= FEWEST_TOKENS and not (whole_slabs and gradients):
        return Schedule(_even_tokens(n_rows, fitting // 128 * 128), vocabulary)
    if gradients:
        budget -= 4 * n_rows * hidden_size
    column_bytes = n_rows * element_size
    columns = max(512, min(8192, budget // (2 * column_bytes)) // 512 * 512)
    slabs = -(-vocabulary // columns)
    kept = max(0, min(slabs, budget // (columns * column_bytes)) - 1) if gradients else 0
    return Schedule(n_rows, columns, kept)


def _even_tokens(n_rows: int, most: int) -> int:
    """Rows per chunk, a multiple of 128 up to `most`, so that the chunks are as few and as even as can be."""
    chunks = -(-n_rows // most)
    return -(-n_rows // (128 * chunks)) * 128


def _padded(columns: int) -> int:
    """Columns of a buffer: each row starts at a multiple of 16 elements, as wide loads and matrix units ask."""
    return -(-columns // 16) * 16


def fused_rows(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None,
    row: RowLoss,
    class_weight: Tensor | None,
    row_weight: Tensor | None,
    need: Need,
    budget: int,
    exact: bool = False,
    want: Want = NOTHING_MORE,
) -> Rows:
    """Losses of rows, and the gradients of their weighted sum, without the full logits.

    The backend `triton`; the arguments are those of `FusedRows` in `problem.py`. Labels outside the
    vocabulary stop the device. All arithmetic between the products is float32.
    """
    if row_weight is None:
        need = Need()
    gradients = need.hidden or need.weight or need.bias or need.scale
    work = _Work(hidden.contiguous(), weight, labels, bias, row, class_weight, row_weight, need, want, gradients)
    if len(hidden) == 0:
        return work.finished()
    triton_kernels.check_labels(labels, work.valid_vocab)
    low = exact and need.weight and weight.element_size() < 4
    packed = low and weight.is_cuda and triton_kernels.can_add_product(work.hidden, weight)
    schedule = choose_schedule(
        len(hidden),
        len(weight),
        weight.shape[1],
        element_size=weight.element_size(),
        budget=budget,
        gradients=gradients,
        whole_slabs=low and not packed,
    )
    if schedule.columns >= len(weight):
        _token_chunks(work, schedule, packed)
    else:
        _vocabulary_slabs(work, schedule)
    return work.finished()


class _Work:
    """The operands, and the outputs that the schedules fill."""

    def __init__(
        self, hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, row: RowLoss,
        class_weight: Tensor | None, row_weight: Tensor | None, need: Need, want: Want, gradients: bool,
    ) -> None:  # fmt: skip
        self.hidden, self.weight, self.labels, self.bias, self.row = hidden, weight, labels, bias, row
        self.class_weight = None if class_weight is None else class_weight.float()
        self.row_weight = None if row_weight is None else row_weight.float()
        self.gradients = gradients
        self.valid_vocab = row.valid_vocab or len(weight)
        self.class_weight_total = None if self.class_weight is None else self.class_weight[: self.valid_vocab].sum()
        n_rows, device = len(hidden), hidden.device

        def floats(wanted: bool = True) -> Tensor | None:
            return torch.empty(n_rows, dtype=torch.float32, device=device) if wanted else None

        self.outputs: dict[str, Tensor | None] = {
            "loss": floats(), "lse": floats(), "logprob": floats(), "entropy": floats(want.entropy),
            "top1": torch.empty(n_rows, dtype=torch.int64, device=device) if want.top1 else None,
            "scale": floats(need.scale),
        }  # fmt: skip
        self.grad_hidden = torch.empty_like(hidden) if need.hidden else None
        self.grad_weight = torch.empty(weight.shape, dtype=weight.dtype, device=device) if need.weight else None
        self.grad_bias = torch.zeros(len(weight), dtype=torch.float32, device=device) if need.bias else None

    def softmax(self, logits: Tensor, rows: slice, flags: Flags, first_column: int = 0) -> None:
        """One pass of the softmax kernel over the logits of `rows`, columns from `first_column` on."""
        triton_kernels.softmax_rows(
            logits,
            self.labels[rows],
            {name: None if output is None else output[..., rows] for name, output in self.outputs.items()},
            flags=flags,
            scale=self.row.scale,
            softcap=self.row.softcap,
            label_smoothing=self.row.label_smoothing,
            z_loss=self.row.z_loss,
            valid_vocab=self.valid_vocab,
            first_column=first_column,
            bias=self.bias,
            class_weight=self.class_weight,
            class_weight_total=self.class_weight_total,
            row_weight=None if self.row_weight is None else self.row_weight[rows],
        )

    def finished(self) -> Rows:
        """The outputs under their names."""
        if len(self.hidden) == 0 and self.grad_weight is not None:
            self.grad_weight.zero_()
        scale, bias, outputs = self.outputs["scale"], self.grad_bias, self.outputs
        loss, lse, logprob = outputs["loss"], outputs["lse"], outputs["logprob"]
        assert loss is not None
        assert lse is not None
        assert logprob is not None
        return Rows(
            loss, lse, logprob, outputs["entropy"], outputs["top1"], self.grad_hidden, self.grad_weight,
            None if bias is None or self.bias is None else bias.to(self.bias.dtype),
            None if scale is None else scale.sum(),
        )  # fmt: skip


def _token_chunks(work: _Work, schedule: Schedule, packed: bool) -> None:
    """Chunks of tokens by the whole vocabulary: three large products per chunk, the logits in one buffer."""
    hidden, weight = work.hidden, work.weight
    buffer = hidden.new_empty(min(schedule.tokens, len(hidden)), _padded(len(weight)))
    flags = Flags(gradient=work.gradients)
    chunks = list(_slices(len(hidden), schedule.tokens))
    packed = packed and len(chunks) > 1
    scales = triton_kernels.product_scales(weight) if packed else None
    for number, rows in enumerate(chunks):
        chunk = hidden[rows]
        logits = buffer[: len(chunk), : len(weight)]
        torch.mm(chunk, weight.t(), out=logits)
        work.softmax(logits, rows, flags)
        if work.grad_hidden is not None:
            torch.mm(logits, weight, out=work.grad_hidden[rows])
        if work.grad_bias is not None:
            work.grad_bias += logits.sum(0, dtype=torch.float32)
        if work.grad_weight is None:
            continue
        if scales is not None:
            first, last = number == 0, number == len(chunks) - 1
            triton_kernels.add_product(logits, chunk, work.grad_weight, scales, first=first, last=last)
        elif number == 0:
            torch.mm(logits.t(), chunk, out=work.grad_weight)
        else:
            work.grad_weight.addmm_(logits.t(), chunk)


def _vocabulary_slabs(work: _Work, schedule: Schedule) -> None:
    """Slabs of the vocabulary by all tokens; the last `kept` slabs keep their logits for the gradients."""
    hidden, weight, everything = work.hidden, work.weight, slice(0, len(work.hidden))
    for name, shape in (("state", (triton_kernels.STATES, len(hidden))), ("label_logit", (len(hidden),))):
        work.outputs[name] = torch.empty(shape, dtype=torch.float32, device=hidden.device)
    slabs = list(_slices(len(weight), schedule.columns))
    passing = hidden.new_empty(len(hidden), schedule.columns)
    kept = {slabs[-1 - i].start: torch.empty_like(passing) for i in range(min(schedule.kept, len(slabs)))}

    def logits_of(columns: slice) -> Tensor:
        return kept.get(columns.start, passing)[:, : columns.stop - columns.start]

    for columns in slabs:
        torch.mm(hidden, weight[columns].t(), out=logits_of(columns))
        flags = Flags(first=columns.start == 0, last=columns.stop == len(weight))
        work.softmax(logits_of(columns), everything, flags, columns.start)
    if not work.gradients:
        return
    total = None
    if work.grad_hidden is not None:
        total = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
    flags = Flags(statistics=False, gradient=True)
    for columns in slabs:
        logits = logits_of(columns)
        if columns.start not in kept:
            torch.mm(hidden, weight[columns].t(), out=logits)
        work.softmax(logits, everything, flags, columns.start)
        flags = replace(flags, first=False)
        if total is not None:
            _add_float32(total, logits, weight[columns])
        if work.grad_weight is not None:
            torch.mm(logits.t(), hidden, out=work.grad_weight[columns])
        if work.grad_bias is not None:
            work.grad_bias[columns] = logits.sum(0, dtype=torch.float32)
    if total is not None and work.grad_hidden is not None:
        work.grad_hidden.copy_(total)


def _add_float32(total: Tensor, left: Tensor, right: Tensor) -> None:
    """`total += left @ right` in float32."""
    if left.dtype == torch.float32:
        total.addmm_(left, right)
    elif left.is_cuda:
        torch.addmm(total, left, right, out_dtype=torch.float32, out=total)
    else:
        total += left.float() @ right.float()


def _slices(length: int, step: int) -> Iterator[slice]:
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))
