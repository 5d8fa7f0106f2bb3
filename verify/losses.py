"""The losses that a generated module calls: watched, to prove that they ran, and edited, to prove that it shows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

LOSSES = "fusegen.runtime.losses"

Arguments = dict[str, Any]
Loss = Callable[..., Any]
Edit = Callable[[Arguments], None]


def losses_of(module: ModuleType) -> dict[str, Loss]:
    """The losses of the runtime that a generated module has imported, by their names in it."""
    return {name: each for name, each in vars(module).items() if getattr(each, "__module__", None) == LOSSES}


def edited(function: Loss, edit: Edit) -> Loss:
    """A loss that is called with other arguments: `edit` changes those that were given, by name."""

    @functools.wraps(function)
    def wrong(*arguments: Any, **keywords: Any) -> Any:
        given = _by_name(function, arguments, keywords)
        edit(given)
        return function(**given)

    return wrong


def _by_name(function: Loss, arguments: tuple[Any, ...], keywords: Arguments) -> Arguments:
    """All arguments of a call by their names, those that `**` takes among them."""
    return dict(zip(inspect.signature(function).parameters, arguments, strict=False)) | keywords


def watch(module: ModuleType) -> list[frozenset[str]]:
    """The list to which each call of a loss of `module` adds the names of its arguments that are not the defaults."""
    calls: list[frozenset[str]] = []
    for name, function in losses_of(module).items():
        setattr(module, name, _watched(function, calls))
    return calls


@contextmanager
def editing(module: ModuleType, edit: Edit) -> Iterator[None]:
    """A block in which every loss of `module` gets edited arguments."""
    before = losses_of(module)
    try:
        for name, function in before.items():
            setattr(module, name, edited(function, edit))
        yield
    finally:
        for name, function in before.items():
            setattr(module, name, function)


def _watched(function: Loss, calls: list[frozenset[str]]) -> Loss:
    @functools.wraps(function)
    def count(*arguments: Any, **keywords: Any) -> Any:
        if not torch.compiler.is_compiling():
            given = _by_name(function, arguments, keywords)
            calls.append(frozenset(name for name, value in given.items() if not _is_default(function, name, value)))
        return function(*arguments, **keywords)

    return count


def _is_default(function: Loss, name: str, value: Any) -> bool:
    parameter = inspect.signature(function).parameters.get(name)
    if value is None or parameter is None:
        return value is None
    return not isinstance(value, torch.Tensor) and value == parameter.default
