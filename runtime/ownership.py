"""Whose function a method runs: its class's own, as its file has it, or one that another patcher has put there."""

from __future__ import annotations

import inspect
import sys
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

# Packages whose decorators a modeling file may use without becoming somebody else's.
_DECORATING = frozenset({"torch", "transformers"})


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


def dotted_name(function: Any) -> str:
    """Where the code of a callable stands: `liger_kernel.transformers.model.llama.lce_forward`."""
    while isinstance(function, partial | MethodType):
        function = function.func if isinstance(function, partial) else function.__func__
    if isinstance(function, FunctionType):
        return f"{function.__globals__['__name__']}.{function.__code__.co_qualname}"
    return f"{type(function).__module__}.{type(function).__qualname__}"
