"""Decorators that leave what a function computes, and its gradient, as they are: by where they come from, not only
by their name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fusegen.codegen.values import Global

if TYPE_CHECKING:
    from fusegen.codegen.members import Scope

_HARMLESS = re.compile(
    r"torch\.jit\.\w+|torch\.compile|torch\.compiler\.\w+|typing\.(override|overload)|typing_extensions\.override"
    r"|can_return_tuple|auto_docstring|deprecate_kwarg|(add|replace)_\w*docstrings\w*|override|overload"
)
# What may stand on a forward as well: both of its branches run inside.
_ON_A_FORWARD = re.compile(
    r"torch\.(no_grad|enable_grad|inference_mode|set_grad_enabled|autocast|amp\.autocast|cuda\.amp\.autocast)"
    r"|capture_outputs|check_model_inputs|merge_with_config_defaults"
)
_ON_A_CLASS = re.compile(
    r"auto_docstring|(add|replace)_\w*docstrings\w*|requires|requires_backends|dataclass|dataclasses\.dataclass|final"
    r"|typing\.final"
)


def unknown_decorator(decorators: Iterable[ast.expr], scope: Scope, *, forward: bool = False) -> ast.expr | None:
    """The first decorator that is not known to be harmless on a function, or on a `forward` whose branches differ."""
    for decorator in decorators:
        path = _path(decorator, scope)
        if not (_HARMLESS.fullmatch(path) or (forward and _ON_A_FORWARD.fullmatch(path))):
            return decorator
    return None


def unknown_class_decorator(decorators: Iterable[ast.expr], scope: Scope) -> ast.expr | None:
    """The first decorator of a class that is not known to leave its methods as they are."""
    return next((each for each in decorators if not _ON_A_CLASS.fullmatch(_path(each, scope))), None)


def _path(decorator: ast.expr, scope: Scope) -> str:
    """What a decorator is called: the whole path in torch, else its last name; "" for one of this file."""
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    names: list[str] = []
    while isinstance(function, ast.Attribute):
        names.append(function.attr)
        function = function.value
    if not isinstance(function, ast.Name) or function.id in scope.index.own:
        return ""
    resolved = scope.resolve(function.id)
    base = resolved.path if isinstance(resolved, Global) else function.id
    path = ".".join([base, *reversed(names)])
    whole = path.split(".")[0] in ("torch", "typing", "typing_extensions", "dataclasses")
    return path if whole else path.rsplit(".", 1)[-1]
