"""What a fused call and the guard on it are written from: the values that must stay as they are until then.

logits = self.lm_head(h) * self.scale     ->     self.lm_head, self.scale, and what its conditions read
"""

from __future__ import annotations

from collections.abc import Iterator

from fusegen.codegen.arguments import VocabularyCall
from fusegen.codegen.operands import is_module_path
from fusegen.codegen.values import Attr, Call, Index, Value


def values_read(loss: VocabularyCall) -> Iterator[Value]:
    """The values that a fused call and the guard on it are written from, but for the hidden states."""
    found = loss.found.loss
    yield from loss.chain.guards
    for step in loss.chain.steps:
        yield from (value for _, value in step.arguments)
        yield from (value for value in (step.when, step.width) if value is not None)
    yield from (value for _, value in found.keywords)
    yield from (value for value in (found.vocab_size, found.call.func, loss.chain.head.rows) if value is not None)
    yield from _places(loss.chain.head.value)
    if loss.chain.outer is not None:
        yield from _places(loss.chain.outer)


def _places(value: Value) -> Iterator[Value]:
    """What a head calls or multiplies with, and what its input is read through."""
    match value:
        case Call(func, args):
            yield func
            yield from (argument for argument in args if is_module_path(argument))
        case Attr(base, _) | Index(base, _):
            yield value
            yield from _places(base)


def with_base(outer: Value | None) -> tuple[Value, ...]:
    """A call, and that below the item of a tuple which it gives."""
    return (outer, outer.base) if isinstance(outer, Index) else (outer,) if outer is not None else ()


def attributes(value: Value) -> frozenset[str]:
    """The names of the attributes that a value reads."""
    own = (value.name,) if isinstance(value, Attr) else ()
    return frozenset(own).union(*map(attributes, value.children()))
