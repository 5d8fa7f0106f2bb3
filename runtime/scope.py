"""Which single models are patched: a mark on the instance, which goes where the instance's attributes go.

    copy.copy, copy.deepcopy, replicas of DataParallel     marked like the model that they were made from
    pickle, torch.save, a spawned process                  not marked, also where there is no fusegen
    del model                                              frees it at once: the mark refers to nothing

The class of a marked model has a forward that looks for the mark, and runs the original for everybody else.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

MARK = "_fusegen"


class _Mark:
    """The value of the attribute; the same one for all models that are patched at a time."""

    def __copy__(self) -> _Mark:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> _Mark:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return bool, ()


class Scope:
    """The models that are marked."""

    def __init__(self) -> None:
        self.mark = _Mark()
        self._nobody = sys.getrefcount(self.mark)

    def add(self, module: nn.Module) -> None:
        """Mark one."""
        vars(module)[MARK] = self.mark

    def remove(self, module: nn.Module) -> None:
        """Take the mark off, that of an earlier scope or of a pickle as well."""
        vars(module).pop(MARK, None)

    def holds(self, module: nn.Module) -> bool:
        """Whether a model is marked."""
        return vars(module).get(MARK) is self.mark

    def is_empty(self) -> bool:
        """Whether no model that is marked is left, nor a copy of one: nothing but a model refers to the mark."""
        return sys.getrefcount(self.mark) <= self._nobody

    def clear(self) -> None:
        """Take the mark off all models and all their copies."""
        if not self.is_empty():
            for module in self.members():
                self.remove(module)
            # What the garbage collector does not know keeps a mark that nobody looks for any more.
            self.mark = _Mark()

    def members(self) -> list[nn.Module]:
        """All models that are marked, copies among them."""
        return [module for module in living_modules() if self.holds(module)]


scope = Scope()


class Choice:
    """What runs as a method of what is marked, and what for everybody else."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self.marked = self.others = original

    @functools.cached_property
    def method(self) -> Callable[..., Any]:
        """The method that chooses at each call: whoever wraps it keeps what is chosen then."""

        def forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            # Dynamo guards on an attribute that may be missing, and not on what the instance's dictionary holds.
            if getattr(module, MARK, None) is scope.mark:
                return self.marked(module, *args, **kwargs)
            return self.others(module, *args, **kwargs)

        return forward

    def choose(self, marked: Callable[..., Any], others: Callable[..., Any]) -> Callable[..., Any]:
        """What is to stand on the class, which looks like what runs for what is marked."""
        self.marked, self.others = marked, others
        return others if marked is others else functools.wraps(marked)(self.method)


def living_modules() -> Iterator[nn.Module]:
    """Every module of torch in this process that the garbage collector knows."""
    kinds: dict[type, bool] = {}
    for each in gc.get_objects():
        kind = type(each)
        if kind not in kinds:
            kinds[kind] = nn.Module in kind.__mro__
        if kinds[kind] and "_modules" in vars(each):
            yield each
