"""The attributes that stand in a recovered chain, set so that leaving one out or inverting it shows.

    {"op": "soft_cap", "cap": "self.config.final_logit_softcapping"}      -> model.config.final_logit_softcapping = 2.5

What a class reads once, in `__init__`, the chain names as an attribute of the model; so setting it afterwards counts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fusegen.verify.operations import OPERATIONS
from fusegen.verify.targets import Chain


def turn_knobs(model: nn.Module, chain: Chain) -> tuple[str, ...]:
    """Sets every knob of the chain far from neutral; the texts of those that were set."""
    return tuple(text for text, owner, name, value in _knobs(model, chain) if _assign(owner, name, value))


def turn_knobs_off(model: nn.Module, chain: Chain) -> tuple[str, ...]:
    """Sets every knob that the chain tests for None to None; the texts of those that were set."""
    optional = tuple(step for step in chain if "is not None" in step.get("when", ""))
    return tuple(text for text, owner, name, _ in _knobs(model, optional) if _assign(owner, name, None))


def _knobs(model: nn.Module, chain: Chain) -> Iterator[tuple[str, Any, str, float]]:
    for step in chain:
        for argument, operand in OPERATIONS.get(step["op"], {}).items():
            place = _place(step.get(argument, ""), model) if operand.far is not None else None
            if place is not None and operand.far is not None:
                yield step[argument], *place, operand.far


def is_knob(text: str) -> bool:
    """Whether an operand is an attribute, which can be set; another expression or a number is as it is."""
    try:
        node = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    return isinstance(node, ast.Attribute) or (isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr")


def _assign(owner: Any, name: str, value: float | None) -> bool:
    """Sets an attribute; False where its owner does not take the value, as a config that checks its fields."""
    current = getattr(owner, name, None)
    if isinstance(current, torch.Tensor):
        if value is not None:
            current.data.fill_(value)
        return value is not None
    try:
        setattr(owner, name, value)
    except Exception:  # each config library has its own; what stays as it was is reported by `proof.gaps`
        return False
    return True


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
