"""Operators one after the other: the executable reference of a chain, unfused and exact, on any device.

Sequence((Linear(head), SoftCap(30.0), CrossEntropy(labels)))(hidden)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sequence:
    """Each operator on what the one before gave. One with the legacy form takes all of them to the legacy path."""

    operators: tuple[Any, ...]

    @property
    def is_legacy(self) -> bool:
        return any(operator.is_legacy for operator in self.operators)

    def __call__(self, value: Tensor) -> Any:
        for operator in self.operators:
            value = operator.call_eagerly(value) if self.is_legacy else operator(value)
        return value
