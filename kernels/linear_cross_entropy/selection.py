"""The rows that count: those whose label is not `ignore_index`.

How many they are decides how the work is cut, and only the device knows it. Waiting for it leaves the device
without work, so everything that does not depend on the number is asked for before `count` is read: the order
of the rows, their labels, and the logits of the first of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from fusegen.kernels.linear_cross_entropy.arguments import check_labels


class Selection:
    """Rows of `hidden` `(N, H)` and `labels` `(N,)`, those that count before those that do not.

    every_hidden: `(N, H)`, contiguous. every_label: `(N,)`, contiguous, as they came. counted: `(N,)` bool.
    order: `(N,)` int64, where each row comes from.

    Raises:
        IndexError: on the CPU, for a label outside `[0, columns)` that is not `ignore_index`.
    """

    def __init__(self, hidden: Tensor, labels: Tensor, ignore_index: int, columns: int) -> None:
        self.every_hidden, self.every_label = hidden.contiguous(), labels.contiguous()
        ignored = labels == ignore_index
        self.counted = ~ignored
        check_labels(labels, self.counted, columns)
        self.order = ignored.view(torch.uint8).argsort(stable=True)
        self._wait = _number(self.counted.sum())

    @cached_property
    def count(self) -> int:
        """How many rows count, n; the host waits for it."""
        return self._wait()

    @property
    def total(self) -> int:
        """All rows, N."""
        return len(self.every_label)

    @property
    def is_everything(self) -> bool:
        """Whether all rows count, so that nothing need be moved; the host waits."""
        return self.count == self.total

    @property
    def hidden(self) -> Tensor:
        """Hidden states `(n, H)` of the rows that count, a copy unless all do; the host waits."""
        return self.take(slice(0, self.count))

    @property
    def labels(self) -> Tensor:
        """Labels `(n,)` of the rows that count; the host waits."""
        return self.of(self.every_label)

    def first_hidden(self, number: int) -> Tensor:
        """A copy of the first hidden states in order, `(number, H)`; those that count, where so many do."""
        return self.every_hidden.index_select(0, self.order[:number])

    def take(self, rows: slice) -> Tensor:
        """Hidden states of some of the n rows: a view where all rows count, else a copy; the host waits."""
        return self.every_hidden[rows] if self.is_everything else self.every_hidden.index_select(0, self.order[rows])

    def ordered(self, values: Tensor) -> Tensor:
        """Numbers per row `(N,)`, those for the rows that count first."""
        return values.index_select(0, self.order)

    def of(self, values: Tensor) -> Tensor:
        """Of numbers per row `(N,)`, those for the rows that count `(n,)`; the host waits."""
        return values if self.is_everything else values.index_select(0, self.order[: self.count])

    def spread(self, values: Tensor, fill: float = 0) -> Tensor:
        """Back from the n rows to `(N, ...)`, with `fill` where rows do not count; the host waits."""
        if self.is_everything:
            return values
        everywhere = values.new_full((self.total, *values.shape[1:]), fill)
        return everywhere.index_copy_(0, self.order[: self.count], values)


def _number(value: Tensor) -> Callable[[], int]:
    """What waits for a 0-d tensor, and for nothing that is asked of the device after this call."""
    if value.device.type != "cuda":
        return lambda: int(value)
    on_host = torch.empty((), dtype=value.dtype, pin_memory=True)
    on_host.copy_(value, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(value.device))

    def wait() -> int:
        arrived.synchronize()
        return int(on_host)

    return wait
