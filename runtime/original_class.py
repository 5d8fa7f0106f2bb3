"""What `super()` and `__class__` mean in a generated method, which runs as a method of the original class.

@stands_for_original
class LlamaForCausalLM(_source.LlamaForCausalLM):
    def forward(self, ...):
        super().forward(...)           # as if it stood in _source.LlamaForCausalLM
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CellType, FunctionType
from typing import Any


def stands_for_original(cls: type) -> type:
    """`cls` itself, with its methods (under their decorators as well) bound to its base as the class around them."""
    (original,) = cls.__bases__
    for cell in _class_cells(list(vars(cls).values())):
        cell.cell_contents = original
    return cls


def _class_cells(found: list[Any]) -> Iterator[CellType]:
    """The cells named `__class__` of functions, and of the functions that those close over."""
    seen: set[int] = set()
    while found:
        function = found.pop()
        if isinstance(function, FunctionType) and id(function) not in seen:
            seen.add(id(function))
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
                if name == "__class__":
                    yield cell
                else:
                    found.append(cell.cell_contents)
