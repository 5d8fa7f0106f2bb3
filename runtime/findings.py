"""What stood in the way of a fused loss: a code, and the thing itself, named for people.

Finding("FG512", "lm_head", TwiceLinear)     ->     "lm_head: my_models.TwiceLinear"
"""

from __future__ import annotations

import inspect
from functools import partial
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fusegen.runtime.ownership import dotted_name


class Finding(NamedTuple):
    """A code of `reasons`; what was looked at, in words or as a path; and what stood there."""

    code: str
    what: str = ""
    found: Any = None


def described(finding: Finding) -> str:
    """What was found, in a few words without addresses; "" where the code says it all."""
    name = _named(finding.found)
    return f"{finding.what}: {name}" if finding.what and name else finding.what or name


def _named(found: Any) -> str:
    match found:
        case None:
            return ""
        case str():
            return found
        case bool() | int() | float() | complex() | torch.dtype() | torch.device():
            return repr(found)
        case Tensor():
            return _tensor(found)
        case type():
            return f"{found.__module__}.{found.__qualname__}"
        case nn.Module():
            return _named(type(found))
    try:
        return f"{dotted_name(found)}{_place(found)}"
    except (KeyError, ValueError):
        # A function without a module, or wrappers in a circle.
        return _named(type(found))


def _tensor(tensor: Tensor) -> str:
    learned = ", learned" if tensor.requires_grad else ""
    shape = "of an unknown shape" if tensor.is_nested else f"of the shape {tuple(tensor.shape)}"
    return f"{_named(type(tensor))} {shape}, {tensor.dtype} on {tensor.device}{learned}"


def _place(function: Any) -> str:
    """The file and line of what was written in Python."""
    while isinstance(function, partial | MethodType):
        function = function.func if isinstance(function, partial) else function.__func__
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    return f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
