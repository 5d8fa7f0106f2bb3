"""The losses that a generated forward calls: watched, to prove that they ran, and edited, to prove that it shows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CellType
from typing import Any

import torch

LOSSES = "fusegen.runtime.losses"

Arguments = dict[str, Any]
Loss = Callable[..., Any]
Edit = Callable[[Arguments], None]


def losses_of(forward: Loss) -> list[CellType]:
    """The cells in which an installed forward holds the losses of the runtime."""
    cells = getattr(forward, "__closure__", None) or ()
    return [cell for cell in cells if getattr(cell.cell_contents, "__module__", None) == LOSSES]


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


def without(keyword: str) -> Edit:
    """The edit that leaves an argument out."""

    def edit(arguments: Arguments) -> None:
        arguments.pop(keyword, None)

    return edit


def watch(forward: Loss) -> list[frozenset[str]]:
    """The list to which each call of a loss in `forward` adds the names of its arguments that are not the defaults."""
    calls: list[frozenset[str]] = []
    for cell in losses_of(forward):
        cell.cell_contents = _watched(cell.cell_contents, calls)
    return calls


@contextmanager
def editing(forward: Loss, edit: Edit) -> Iterator[None]:
    """A block in which every loss of `forward` gets edited arguments."""
    before = [(cell, cell.cell_contents) for cell in losses_of(forward)]
    try:
        for cell, function in before:
            cell.cell_contents = edited(function, edit)
        yield
    finally:
        for cell, function in before:
            cell.cell_contents = function


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
