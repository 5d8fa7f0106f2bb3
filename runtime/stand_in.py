"""Lets a generated function run as the original's method: by its names, its defaults, its decorators.

original                                          what runs in its place
    @can_return_tuple                                 the same wrapper, around the generated function
    def forward(self, ..., scale=k): ...              the generated statements; __defaults__ of the original
    __globals__ of its module                         the same dictionary, whoever changes it and when
    super(), __class__                                the original class
"""

from __future__ import annotations

import functools
import inspect
import operator
from types import CellType, CodeType, FunctionType
from typing import Any

from fusegen.runtime.generated_text import CLASS_CELL, unknown_names
from fusegen.runtime.ownership import leads_to
from fusegen.runtime.tuples import makes_tuples, whole_tuples

_ATTRIBUTES = functools.WRAPPER_ASSIGNMENTS


class CannotStandIn(Exception):
    """A generated function cannot run as this original; says why."""


def in_place_of(original: FunctionType, owner: type, generated: FunctionType) -> FunctionType:
    """`generated`, under everything that `original` is under as a method of `owner`.

    Raises:
        CannotStandIn: a decorator holds on to the original, or the two are called differently.
    """
    innermost = inspect.unwrap(original)
    if _parameters(innermost.__code__) != _parameters(generated.__code__):
        raise CannotStandIn("its parameters are not those of the generated one")
    if missing := unknown_names(generated.__code__, innermost):
        raise CannotStandIn(f"its module has no `{missing[0]}`")
    cells = dict(zip(generated.__code__.co_freevars, generated.__closure__ or (), strict=True))
    closure = dict(zip(innermost.__code__.co_freevars, innermost.__closure__ or (), strict=True))
    if set(closure) - {CLASS_CELL}:
        raise CannotStandIn("it closes over names of a function around it")
    new = FunctionType(
        generated.__code__,
        innermost.__globals__,
        innermost.__name__,
        innermost.__defaults__,
        tuple(
            closure.get(name, CellType(owner)) if name == CLASS_CELL else CellType(cell.cell_contents)
            for name, cell in cells.items()
        ),
    )
    _take_after(new, innermost)
    exchange = _Exchange(innermost, new)
    whole = exchange(original)
    if leads_to(whole, [innermost]) or (original is not innermost and whole is original):
        raise CannotStandIn("a decorator holds on to it")
    return whole


def _parameters(code: CodeType) -> tuple[Any, ...]:
    number = code.co_argcount + code.co_kwonlyargcount
    starred = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
    number += bool(starred & inspect.CO_VARARGS) + bool(starred & inspect.CO_VARKEYWORDS)
    return code.co_posonlyargcount, code.co_argcount, starred, code.co_varnames[:number]


def _take_after(new: FunctionType, old: FunctionType) -> None:
    """Everything that a function is but for its code and what it closes over."""
    new.__kwdefaults__ = old.__kwdefaults__
    for name in _ATTRIBUTES:
        if hasattr(old, name):
            setattr(new, name, getattr(old, name))
    vars(new).update(vars(old))


class _Exchange:
    """Wrappers around a function, made anew around another one: each with its own code and cells, but for that one."""

    def __init__(self, old: FunctionType, new: FunctionType) -> None:
        self._made: dict[FunctionType, FunctionType] = {old: new}

    def __call__(self, function: Any) -> Any:
        if not isinstance(function, FunctionType):
            return function
        if function not in self._made:
            self._made[function] = function
            self._made[function] = self._around(function)
        return self._made[function]

    def _around(self, wrapper: FunctionType) -> FunctionType:
        cells = tuple(self._cell(cell) for cell in wrapper.__closure__ or ())
        defaults = wrapper.__defaults__ and tuple(map(self, wrapper.__defaults__))
        keywords = wrapper.__kwdefaults__ and {name: self(each) for name, each in wrapper.__kwdefaults__.items()}
        before = [*(wrapper.__closure__ or ()), *(wrapper.__defaults__ or ()), *(wrapper.__kwdefaults__ or {}).values()]
        after = [*cells, *(defaults or ()), *(keywords or {}).values()]
        if all(map(operator.is_, before, after)):
            return wrapper
        new = FunctionType(wrapper.__code__, wrapper.__globals__, wrapper.__name__, defaults, cells or None)
        _take_after(new, wrapper)
        new.__kwdefaults__ = keywords
        vars(new).update({name: self(each) for name, each in vars(wrapper).items()})
        return whole_tuples(new) if makes_tuples(wrapper) else new

    def _cell(self, cell: CellType) -> CellType:
        try:
            content = cell.cell_contents
        except ValueError:
            return cell
        exchanged = self(content)
        return cell if exchanged is content else CellType(exchanged)
