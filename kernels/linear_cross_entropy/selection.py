"""The rows that count: those whose label is not `ignore_index`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fusegen.kernels.linear_cross_entropy.arguments import check_labels

FEW = 64
"""Where no more than one row in so many is ignored (one a sequence, as a shift gives), all rows are worked on in
place with a weight of 0 instead of copying the others."""


@dataclass(frozen=True)
class Selection:
    """Hidden states `(n, H)` and labels `(n,)` to work on. `rows`: where they come from, None where all were taken.

    `counted`: the weight 0 or 1 of each row as a mask, None where all count.
    """

    hidden: Tensor
    labels: Tensor
    rows: Tensor | None
    counted: Tensor | None

    def of(self, values: Tensor) -> Tensor:
        """Of numbers per row `(N,)`, those for the rows to work on; 0 for those that do not count."""
        return self.of_chosen(values if self.rows is None else values.index_select(0, self.rows))

    def of_chosen(self, values: Tensor) -> Tensor:
        """Numbers per row to work on, with 0 for those that do not count."""
        return values if self.counted is None else torch.where(self.counted, values, 0)

    def spread(self, values: Tensor, total: int, fill: float = 0) -> Tensor:
        """Back to `(total, ...)`, with `fill` where rows do not count; a tensor of its own."""
        if self.rows is not None:
            everywhere = values.new_full((total, *values.shape[1:]), fill)
            return everywhere.index_copy_(0, self.rows, values)
        if self.counted is None:
            return values
        counted = self.counted.reshape(-1, *[1] * (values.dim() - 1))
        return values.masked_fill_(~counted, fill)


def select(hidden: Tensor, labels: Tensor, ignore_index: int, columns: int) -> Selection:
    """The selection; waits for the device to count. On the CPU `IndexError` for a label outside `[0, columns)`."""
    counted = labels != ignore_index
    rows = counted.nonzero().squeeze(1)
    ignored = len(labels) - len(rows)
    if ignored == 0:
        check_labels(labels, columns)
        return Selection(hidden, labels, None, None)
    kept = labels.index_select(0, rows)
    check_labels(kept, columns)
    if ignored * FEW <= len(labels):
        return Selection(hidden, labels.masked_fill(~counted, 0), None, counted)
    return Selection(hidden.index_select(0, rows), kept, rows, None)
