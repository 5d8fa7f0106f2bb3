"""Whose function a method runs: its class's own, as its file has it, or one that another patcher has put there."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch.nn import Module

# Packages whose decorators a modeling file may use without becoming somebody else's.
_DECORATING = frozenset({"torch", "transformers"})
# How much a wrapper may hold before nobody looks any further.
_FARTHEST = 10_000


def foreign_owner(function: Any, owner: type) -> str | None:
    """The dotted name of what is not the class's own about a method, or None if it is as its module defines it.

    Judged by globals: `functools.wraps` makes a foreign function look like the original in every other way.
    A method may be under decorators of its own package, of torch and of transformers.
    """
    packages = {owner.__module__.partition(".")[0], *_DECORATING}
    while isinstance(function, FunctionType):
        module = function.__globals__["__name__"]
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is None:
            return None if module == owner.__module__ else dotted_name(function)
        if module.partition(".")[0] not in packages:
            return dotted_name(function)
        function = wrapped
    return dotted_name(function)


def is_as_written(function: Any, module_name: str) -> bool:
    """Whether a function or method of a loaded module runs what its file says now; the file may have been replaced.

    True as well where the loader of the module cannot tell.
    """
    module = sys.modules[module_name]
    get_code = getattr(getattr(module, "__loader__", None), "get_code", None)
    written = get_code(module.__name__) if get_code else None
    code = inspect.unwrap(function).__code__
    return written is None or any(code == each for each in _functions(written, code.co_qualname.split(".")))


def _functions(code: CodeType, path: list[str]) -> list[CodeType]:
    """The code of everything in `code` that has this path of names, e.g. a class and its method."""
    found = [code]
    for name in path:
        inner = [constant for each in found for constant in each.co_consts if isinstance(constant, CodeType)]
        found = [each for each in inner if each.co_name == name]
    return found


def leads_to(start: Any, goals: Collection[Any]) -> bool:
    """Whether a callable, or something that it holds on to, is one of `goals`: in cells, `__wrapped__`, partials."""
    seen: set[int] = set()
    found = [start]
    while found and len(seen) < _FARTHEST:
        each = found.pop()
        if any(each is goal for goal in goals):
            return True
        if id(each) not in seen:
            seen.add(id(each))
            found += _held(each)
    return False


def _held(each: Any) -> list[Any]:
    """What a callable or a container holds; nothing of modules, classes and models."""
    match each:
        case FunctionType():
            cells = [cell.cell_contents for cell in each.__closure__ or () if cell != CellType()]
            return [*cells, *(each.__defaults__ or ()), *(each.__kwdefaults__ or {}).values(), *vars(each).values()]
        case MethodType():
            return [each.__func__, each.__self__]
        case partial():
            return [each.func, *each.args, *each.keywords.values(), *vars(each).values()]
        case tuple() | list() | set() | frozenset():
            return list(each)
        case dict():
            return list(each.values())
        case type() | ModuleType() | Module():
            return []
    return list(getattr(each, "__dict__", {}).values()) if callable(each) else []


def described(function: Any) -> str:
    """Where the code of a callable stands, with file and line if it has them: `trl.trainer.forward (trl/x.py:12)`."""
    inner = _plain(function)
    code = inner.__code__ if isinstance(inner, FunctionType) else None
    return f"{dotted_name(function)} ({code.co_filename}:{code.co_firstlineno})" if code else dotted_name(function)


def _plain(function: Any) -> Any:
    while isinstance(function, partial | MethodType):
        function = function.func if isinstance(function, partial) else function.__func__
    return function


def dotted_name(function: Any) -> str:
    """Where the code of a callable stands: `liger_kernel.transformers.model.llama.lce_forward`."""
    function = _plain(function)
    if isinstance(function, FunctionType):
        return f"{function.__globals__['__name__']}.{function.__code__.co_qualname}"
    return f"{type(function).__module__}.{type(function).__qualname__}"
