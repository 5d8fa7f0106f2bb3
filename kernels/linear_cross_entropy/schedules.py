"""How `linear_cross_entropy` walks over tokens and vocabulary so that the logits fit into a budget of bytes.

    token chunks      logits = chunk @ weight.T -> softmax in place -> dW += logits.T @ chunk, dX = logits @ weight
    vocabulary slabs  statistics of all slabs first; then, slab by slab, the logits again (as many as the budget
                      holds are kept), dW of the slab in one product, dX summed in float32
    losses alone      without gradients, where a product can keep the statistics of its rows and no logits

The schedule follows from sizes, dtype and budget alone. Products run in the vendor's library, the softmax
in `softmax_kernel.py`. Between token chunks the gradient of the head is rounded to its dtype, unless
`exact` is asked for: then it is held with sixteen bits in the gradient's own memory (`add_product`) and
rounded once, as with full logits.

The schedule needs the number of rows that count, for which the host has to wait. So that the device does not
wait as well, the first product of the first chunk is begun before (`_open`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType

import torch
from torch import Tensor

from fusegen.kernels.linear_cross_entropy import exact_product, hopper, softmax_kernel
from fusegen.kernels.linear_cross_entropy.problem import (
    Need,
    RowLoss,
    Rows,
    RowWeights,
    Want,
    have_aligned_rows,
    padded_columns,
)
from fusegen.kernels.linear_cross_entropy.selection import Selection
from fusegen.kernels.linear_cross_entropy.softmax_kernel import Flags

FEWEST_TOKENS = 256
"""A chunk of fewer tokens keeps the matrix units waiting for the head: slabs with recomputation are faster."""

OPENING_TOKENS = 512
"""Rows whose logits are asked for before the host waits: 0.2 ms at V = 32000 on an H100, and it needs 0.1."""

FEWEST_LOGITS = 2**29
"""Below, the logits are sooner written and read than the kernel without them is started: on an H200 it saves 1.1 ms
of 13.7 at 2^30 logits, and loses 0.3 of 1.5 at 2^27."""

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
    fitting = budget // (padded_columns(vocabulary) * element_size)
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
    want: Want = NOTHING_MORE,
) -> Rows:
    """Losses of rows, and the gradients of their weighted sum, without the full logits.

    The backend `triton`; the arguments are those of `FusedRows` in `problem.py`. Labels outside the
    vocabulary stop the device. All arithmetic between the products is float32.
    """
    if not row_weights:
        need = Need()
    work = _Work(chosen, weight, bias, row, class_weight, row_weights, need, want)
    low = exact and need.weight and weight.element_size() < 4
    packed = low and weight.is_cuda and exact_product.can_add_product(chosen.every_hidden, weight)
    special = work.kernels_without_logits
    if special is not None:
        _losses_alone(work, special, budget)
        return work.finished()

    def schedule_for(n_rows: int) -> Schedule:
        return choose_schedule(
            n_rows,
            len(weight),
            weight.shape[1],
            element_size=weight.element_size(),
            budget=budget,
            gradients=work.gradients,
            whole_slabs=low and not packed,
        )

    opening = _open(work, schedule_for(chosen.total))
    if chosen.count == 0:
        return work.finished()
    schedule = schedule_for(chosen.count)
    if schedule.columns >= len(weight):
        _token_chunks(work, schedule, packed, opening)
    else:
        _vocabulary_slabs(work, schedule)
    return work.finished()


class _Work:
    """The operands, and the outputs that the schedules fill. Nothing here waits for the number of rows but `finished`.

    labels, row_weights and the outputs are in the order of `chosen`: those that count are the first.
    """

    def __init__(
        self,
        chosen: Selection,
        weight: Tensor,
        bias: Tensor | None,
        row: RowLoss,
        class_weight: Tensor | None,
        row_weights: RowWeights,
        need: Need,
        want: Want,
    ) -> None:
        self.chosen, self.weight, self.row = chosen, weight, row
        self.bias = None if bias is None else bias.contiguous()
        self.gradients = need.hidden or need.weight or need.bias or need.scale
        self.valid_vocab = row.valid_vocab or len(weight)
        self.labels = chosen.ordered(chosen.every_label)
        softmax_kernel.check_labels(chosen.every_label, chosen.counted, self.valid_vocab)
        self.class_weight = None if class_weight is None else class_weight.float().contiguous()
        self.class_weight_total = None if self.class_weight is None else self.class_weight[: self.valid_vocab].sum()
        self.row_weights = {
            f"{name}_weight": None if values is None else chosen.ordered(values).float()
            for name, values in vars(row_weights).items()
        }
        hidden, device = chosen.every_hidden, weight.device

        def floats(wanted: bool = True) -> Tensor | None:
            return torch.empty(chosen.total, dtype=torch.float32, device=device) if wanted else None

        self.want = want
        self.outputs: dict[str, Tensor | None] = {
            "loss": floats(), "lse": floats(), "logprob": floats(),
            "entropy": floats(want.entropy or row_weights.entropy is not None),
            "top1": torch.empty(chosen.total, dtype=torch.int64, device=device) if want.top1 else None,
            "scale": floats(need.scale),
        }  # fmt: skip
        self.grad_hidden = hidden.new_empty(hidden.shape) if need.hidden else None
        self.grad_weight = torch.empty(weight.shape, dtype=weight.dtype, device=device) if need.weight else None
        self.grad_bias = torch.zeros(len(weight), dtype=torch.float32, device=device) if need.bias else None

    @property
    def kernels_without_logits(self) -> ModuleType | None:
        """Those for losses that follow from each row's maximum and sum of exponentials; None for all other work."""
        more = self.row.label_smoothing or self.want.entropy or self.want.top1 or self.gradients
        enough = self.chosen.total * len(self.weight) >= FEWEST_LOGITS
        if more or not enough or not have_aligned_rows(self.chosen.every_hidden, self.weight):
            return None
        return hopper.kernels(self.weight.device)

    def softmax(
        self, logits: Tensor | None, rows: slice, flags: Flags, first_column: int = 0, statistics: Tensor | None = None
    ) -> None:
        """One pass of the softmax kernel over the logits of `rows`, columns from `first_column` on."""
        softmax_kernel.softmax_rows(
            logits,
            self.labels[rows],
            {name: None if output is None else output[..., rows] for name, output in self.outputs.items()},
            flags=flags,
            statistics=statistics,
            scale=self.row.scale,
            softcap=self.row.softcap,
            label_smoothing=self.row.label_smoothing,
            z_loss=self.row.z_loss,
            valid_vocab=self.valid_vocab,
            first_column=first_column,
            bias=self.bias,
            class_weight=self.class_weight,
            class_weight_total=self.class_weight_total,
            **{name: None if values is None else values[rows] for name, values in self.row_weights.items()},
        )

    def put_grad_hidden(self, rows: slice, values: Tensor) -> None:
        """Gradients of the hidden states of `rows`, to where these come from."""
        assert self.grad_hidden is not None
        if self.chosen.is_everything:
            self.grad_hidden[rows].copy_(values)
        else:
            self.grad_hidden.index_copy_(0, self.chosen.order[rows], values.to(self.grad_hidden.dtype))

    def finished(self) -> Rows:
        """The outputs under their names, those of the rows that count."""
        count = self.chosen.count
        if count == 0 and self.grad_weight is not None:
            self.grad_weight.zero_()
        if count < self.chosen.total and self.grad_hidden is not None:
            self.grad_hidden.index_fill_(0, self.chosen.order[count:], 0)
        found = {
            name: values if values is None or self.chosen.is_everything else values[:count]
            for name, values in self.outputs.items()
            if name not in ("state", "label_logit")
        }
        scale = found.pop("scale")
        if not self.want.entropy:
            found["entropy"] = None
        return Rows(
            **found,  # type: ignore[arg-type]
            grad_hidden=self.grad_hidden,
            grad_weight=self.grad_weight,
            grad_bias=None if self.grad_bias is None or self.bias is None else self.grad_bias.to(self.bias.dtype),
            grad_scale=None if scale is None else scale.sum(),
        )


@dataclass(frozen=True)
class _Opening:
    """The buffer of a first chunk, in which the logits of `rows` rows are on their way."""

    buffer: Tensor
    rows: int


def _open(work: _Work, schedule: Schedule) -> _Opening | None:
    """Asks for the logits of a few rows: the first that count, since those stand first. None for slabs."""
    weight = work.weight
    if schedule.columns < len(weight) or schedule.tokens == 0:
        return None
    buffer = weight.new_empty(schedule.tokens, padded_columns(len(weight)))
    rows = min(schedule.tokens, OPENING_TOKENS)
    torch.mm(work.chosen.first_hidden(rows), weight.t(), out=buffer[:rows, : len(weight)])
    return _Opening(buffer, rows)


def _token_chunks(work: _Work, schedule: Schedule, packed: bool, opening: _Opening | None) -> None:
    """Chunks of tokens by the whole vocabulary: three large products per chunk, the logits in one buffer."""
    chosen, weight = work.chosen, work.weight
    opening = opening or _Opening(weight.new_empty(schedule.tokens, padded_columns(len(weight))), 0)
    flags = Flags(gradient=work.gradients)
    # Fewer rows can make larger even chunks than the buffer was made for.
    chunks = list(_slices(chosen.count, min(schedule.tokens, len(opening.buffer))))
    packed = packed and len(chunks) > 1
    scales = exact_product.product_scales(weight) if packed else None
    for number, rows in enumerate(chunks):
        chunk = chosen.take(rows)
        logits = opening.buffer[: len(chunk), : len(weight)]
        there = opening.rows if number == 0 else 0
        if there < len(chunk):
            torch.mm(chunk[there:], weight.t(), out=logits[there:])
        work.softmax(logits, rows, flags)
        if work.grad_bias is not None:
            work.grad_bias += logits.sum(0, dtype=torch.float32)
        if work.grad_weight is not None and scales is not None:
            first, last = number == 0, number == len(chunks) - 1
            exact_product.add_product(logits, chunk, work.grad_weight, scales, first=first, last=last)
        elif work.grad_weight is not None and number == 0:
            torch.mm(logits.t(), chunk, out=work.grad_weight)
        elif work.grad_weight is not None:
            work.grad_weight.addmm_(logits.t(), chunk)
        if work.grad_hidden is not None and chosen.is_everything:
            torch.mm(logits, weight, out=work.grad_hidden[rows])
        elif work.grad_hidden is not None:
            # The chunk is a copy, which nothing needs any more.
            work.put_grad_hidden(rows, torch.mm(logits, weight, out=chunk))


def _vocabulary_slabs(work: _Work, schedule: Schedule) -> None:
    """Slabs of the vocabulary by all tokens; the last `kept` slabs keep their logits for the gradients."""
    hidden, weight, everything = work.chosen.hidden, work.weight, slice(0, work.chosen.count)
    for name, shape in (("state", (softmax_kernel.STATES, len(hidden))), ("label_logit", (len(hidden),))):
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
    if total is not None:
        work.put_grad_hidden(everything, total)


def _losses_alone(work: _Work, special: ModuleType, budget: int) -> None:
    """No logits at all: the product keeps statistics of its rows, and the labels' logits are computed once more."""
    chosen, weight = work.chosen, work.weight
    fitting = max(OPENING_TOKENS, budget // special.statistics_bytes(weight))
    statistics = special.empty_statistics(min(chosen.total, fitting), weight)
    label_logit = work.outputs["label_logit"] = torch.empty_like(work.labels, dtype=torch.float32)

    def multiply(hidden: Tensor, first: int) -> None:
        special.multiply_statistics(
            hidden, weight, statistics[first : first + len(hidden)],
            bias=work.bias, scale=work.row.scale, softcap=work.row.softcap, valid_vocab=work.valid_vocab,
        )  # fmt: skip

    opening = min(len(statistics), OPENING_TOKENS)
    multiply(chosen.first_hidden(opening), 0)
    for rows in _slices(chosen.count, max(1, len(statistics))):
        chunk = chosen.take(rows)
        there = opening if rows.start == 0 else 0
        if there < len(chunk):
            multiply(chunk[there:], there)
        softmax_kernel.label_logits(chunk, weight, work.labels[rows], label_logit[rows])
        work.softmax(None, rows, Flags(), statistics=statistics[: len(chunk)])


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
