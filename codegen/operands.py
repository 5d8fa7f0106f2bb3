"""Operands of a chain as Python that a generated forward can run in the place of the head call.

Attr(Attr(Self(), "config"), "final_logit_softcapping")  ->  "self.config.final_logit_softcapping"
"""

from __future__ import annotations

from fusegen.codegen.values import (
    Attr,
    Binary,
    Call,
    Const,
    Global,
    Index,
    Logic,
    Param,
    Self,
    Slice,
    Unary,
    Value,
    negate,
    render,
)

_PURE_CALLS = frozenset(("get_text_config", "get_decoder"))


class Unwritable(Exception):
    """Something that a fused branch needs has no faithful text: turned into a refusal by who asked for it."""

    def __init__(self, reason: str, code: str = "FG604") -> None:
        super().__init__(reason)
        self.code = code


def is_module_path(place: Value) -> bool:
    """Whether a value is a place below `self`: `self.lm_head`, `self.cls.predictions`, `self.lm_head[step]`."""
    while isinstance(place, Attr | Index):
        place = place.base
        if isinstance(place, Self):
            return True
    return False


def python_text(value: Value, head: Value, head_text: str, stable: frozenset[str]) -> str | None:
    """`value` as an expression, or None if it cannot be written down faithfully.

    `head` is the head's product, whose width reads `<head_text>.out_features`; `stable` are the parameters that
    hold what the caller gave them.
    """
    replaced = _without_logits(value, head, head_text)
    if replaced is None or not _is_writable(replaced, stable):
        return None
    text = render(replaced, 1000)
    return None if "…" in text else text


def condition_text(condition: Value, head: Value, head_text: str, stable: frozenset[str]) -> str | None:
    """A condition as an expression; `not` of a comparison with None reads `is not None`."""
    if isinstance(condition, Unary) and condition.op == "not":
        return python_text(negate(condition.operand), head, head_text, stable)
    return python_text(condition, head, head_text, stable)


def _without_logits(value: Value, head: Value, head_text: str) -> Value | None:
    """`logits.shape[-1]` and `logits.size(-1)` as the head's rows; None if the logits are used otherwise."""
    match value:
        case Index(Attr(logits, "shape"), Const(-1)) | Call(Attr(logits, "size"), (Const(-1),), ()) if logits == head:
            return Global(f"{head_text}.out_features")
        case Binary(op, left, right):
            sides = [_without_logits(side, head, head_text) for side in (left, right)]
            return Binary(op, sides[0], sides[1]) if sides[0] is not None and sides[1] is not None else None
        case Logic(op, items):
            parts = [_without_logits(item, head, head_text) for item in items]
            return Logic(op, tuple(part for part in parts if part is not None)) if None not in parts else None
        case Unary(op, operand):
            inner = _without_logits(operand, head, head_text)
            return Unary(op, inner) if inner is not None else None
    return value


def _is_writable(value: Value, stable: frozenset[str]) -> bool:
    match value:
        case Self() | Const():
            return True
        case Param(name):
            return name in stable
        case Global(path):
            return path.startswith(("torch.", "self."))
        case Attr(base, _):
            return _is_writable(base, stable)
        case Call(Attr(base, name), args, ()):
            return name in _PURE_CALLS and not args and _is_writable(base, stable)
        case Call(Global("getattr"), args, ()):
            return all(_is_writable(argument, stable) for argument in args)
        case Binary() | Logic() | Unary() | Slice():
            return all(_is_writable(child, stable) for child in value.children())
    return False
