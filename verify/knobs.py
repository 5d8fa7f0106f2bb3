"""The attributes that stand in a recovered chain, set so that leaving one out or inverting it shows.

    {"op": "soft_cap", "cap": "self.config.final_logit_softcapping"}      -> model.config.final_logit_softcapping = 2.5

What a class reads once, in `__init__`, the chain names as an attribute of the model; so setting it afterwards counts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

Chain = tuple[Mapping[str, str], ...]

# Per operation, the argument that names the knob and a value that is neither neutral nor its own inverse.
_FAR_FROM_NEUTRAL: dict[str, tuple[tuple[str, float], ...]] = {
    "soft_cap": (("cap", 2.5),),
    "scale": (("multiply", 1.7), ("divide", 0.6)),
    "vocab_slice": (("columns", 83),),
}


def turn_knobs(model: nn.Module, chain: Chain) -> tuple[str, ...]:
    """Sets every knob of the chain far from neutral; the texts of those that were set."""
    return tuple(text for text, owner, name, value in _knobs(model, chain) if _assign(owner, name, value))


def turn_knobs_off(model: nn.Module, chain: Chain) -> tuple[str, ...]:
    """Sets every knob that the chain tests for None to None; the texts of those that were set."""
    optional = tuple(step for step in chain if "is not None" in step.get("when", ""))
    return tuple(text for text, owner, name, _ in _knobs(model, optional) if _assign(owner, name, None))


def _knobs(model: nn.Module, chain: Chain) -> Iterator[tuple[str, Any, str, float]]:
    for step in chain:
        for argument, value in _FAR_FROM_NEUTRAL.get(step["op"], ()):
            place = _place(step.get(argument, ""), model)
            if place is not None:
                yield step[argument], *place, value


def _assign(owner: Any, name: str, value: float | None) -> bool:
    current = getattr(owner, name, None)
    if isinstance(current, torch.Tensor):
        if value is not None:
            current.data.fill_(value)
    else:
        setattr(owner, name, value)
    return value is not None or not isinstance(current, torch.Tensor)


def _place(text: str, model: nn.Module) -> tuple[Any, str] | None:
    """The object and the attribute that an expression of attributes of `self` names, or None for another one."""
    try:
        node = ast.parse(text, mode="eval").body
    except SyntaxError:
        return None
    match node:
        case ast.Attribute(owner, name):
            inside = _value(owner, model)
            return (inside, name) if hasattr(inside, name) else None
        case ast.Call(ast.Name("getattr"), [owner, ast.Constant(str(name)), *_]):
            inside = _value(owner, model)
            return (inside, name) if inside is not None else None
        case _:
            return None


def _value(node: ast.expr, model: nn.Module) -> Any:
    match node:
        case ast.Name("self"):
            return model
        case ast.Attribute(owner, name):
            return getattr(_value(owner, model), name, None)
        case ast.Call(ast.Attribute(owner, name), [], []):
            method = getattr(_value(owner, model), name, None)
            return method() if callable(method) else None
        case _:
            return None
