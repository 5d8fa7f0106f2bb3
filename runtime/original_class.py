"""What names mean in a generated method, which runs as a method of the original class: what they mean there.

@stands_for_original
class LlamaForCausalLM(_source.LlamaForCausalLM):
    def forward(self, ...):
        super().forward(...)           # as if it stood in _source.LlamaForCausalLM
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CellType, FunctionType, ModuleType
from typing import Any


def stands_for_original(cls: type) -> type:
    """`cls` itself, with its methods (under their decorators as well) bound to its base as the class around them."""
    (original,) = cls.__bases__
    for cell in _class_cells(list(vars(cls).values())):
        cell.cell_contents = original
    return cls


def mirrors(generated: ModuleType, original: ModuleType) -> bool:
    """Whether the names of a generated module mean what they mean in the original by now, after reloads and patches."""
    own = vars(generated)
    shared = [name for name in vars(original) if name in own and not name.startswith("__")]
    return all(_means(own[name], vars(original)[name], generated) for name in shared)


def _means(ours: Any, theirs: Any, generated: ModuleType) -> bool:
    module = getattr(ours, "__module__", None) or ""
    if isinstance(ours, type) and module == generated.__name__:
        return ours.__bases__[0] is theirs
    return ours is theirs or module.startswith("fusegen.")


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
