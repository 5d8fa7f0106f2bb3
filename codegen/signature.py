"""A function's parameters as they read, without annotations: those change with the style of a release.

def forward(self, labels: Tensor | None = None, *, n=1, **kwargs)   ->   ("self", "labels=None", "*", "n=1", "**kwargs")
"""

from __future__ import annotations

import ast


def parameters(function: ast.FunctionDef) -> tuple[str, ...]:
    """Every parameter with its default, and the marks `/` and `*` where they stand."""
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    first_default = len(positional) - len(given.defaults)
    spelled = [
        _spelled(argument, given.defaults[number - first_default] if number >= first_default else None)
        for number, argument in enumerate(positional)
    ]
    if given.posonlyargs:
        spelled.insert(len(given.posonlyargs), "/")
    if given.vararg is not None:
        spelled.append(f"*{given.vararg.arg}")
    elif given.kwonlyargs:
        spelled.append("*")
    spelled += map(_spelled, given.kwonlyargs, given.kw_defaults)
    if given.kwarg is not None:
        spelled.append(f"**{given.kwarg.arg}")
    return tuple(spelled)


def _spelled(argument: ast.arg, default: ast.expr | None) -> str:
    return argument.arg if default is None else f"{argument.arg}={ast.unparse(default)}"
