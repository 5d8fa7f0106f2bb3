"""Whether a forward takes the result of a stock loss apart: a stock loss gives one number, which has no parts.

loss, aux = self.loss_function(...)     self.loss_function(...)[0]     self.loss_function(...).loss
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from fusegen.codegen.bindings import Trace
from fusegen.codegen.expressions import item_at
from fusegen.codegen.logit_ops.step import Refusal
from fusegen.codegen.losses import Loss
from fusegen.codegen.reading import Reading
from fusegen.codegen.storage import SHARING_ATTRIBUTES
from fusegen.codegen.values import Attr, Call, Comprehension, Global, Index, Logic, Opaque, Select, Starred, Value

_OF_A_NUMBER = SHARING_ATTRIBUTES | {"device", "dtype", "shape", "ndim", "requires_grad", "grad_fn", "is_cuda"}
_OF_A_CONTAINER = frozenset(("get", "items", "keys", "values", "pop", "to_tuple", "unbind", "_asdict", "__getitem__"))
_OVER_ITEMS = frozenset(
    ("len", "iter", "next", "tuple", "list", "dict", "set", "sorted", "reversed", "enumerate", "zip")
)
_ITEM_OF = ("starred target", "for target", "item")


def taken_apart(loss: Loss, walked: Trace, function: ast.FunctionDef, reading: Reading) -> Refusal | None:
    """FG302 where the result of `self.loss_function` is unpacked, iterated over, subscripted or asked for a field."""
    if loss.kind == "cross_entropy":
        return None
    where = _unpacking(loss, function)
    if where is None:
        search = _Search(loss, reading)
        values = [value for each in (walked, *reading.inlined.values()) if each is not None for value in _left(each)]
        where = next((part.node or loss.call.node for value in values for part in search.parts(value)), None)
    if where is None:
        return None
    return Refusal("FG302", where, f"the result of `{loss.spelling}` is taken apart, and a stock loss gives one number")


def _unpacking(loss: Loss, function: ast.FunctionDef) -> ast.AST | None:
    """The statement that unpacks the call itself, whatever becomes of the parts."""
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=targets, value=value) if value is loss.call.node and any(
                isinstance(target, ast.Tuple | ast.List) for target in targets
            ):
                return node
    return None


def _left(walked: Trace) -> Iterator[Value]:
    for sink in walked.sinks:
        yield sink.value
    for record in walked.calls:
        yield record.call
    for _, value, _ in walked.stores:
        yield value


class _Search:
    """Looks for parts of one loss's result in values."""

    def __init__(self, loss: Loss, reading: Reading) -> None:
        self.loss = loss
        self.reading = reading
        self.seen: set[Value] = set()

    def parts(self, value: Value) -> Iterator[Value]:
        """What takes the result apart in what a value is made of; nothing is looked at twice."""
        if value in self.seen:
            return
        self.seen.add(value)
        children = value.children()
        match value:
            case Call(Attr(base, name) as method, args, _) if self.gives(base):
                if name in _OF_A_CONTAINER:
                    yield value
                children = [child for child in children if child is not method]
            case Call(Global(path), args, _) if path in _OVER_ITEMS and any(map(self.gives, args)):
                yield value
            case Index(base) | Starred(base) if self.gives(base):
                yield value
            case Attr(base, name) if name not in _OF_A_NUMBER and self.gives(base):
                yield value
            case Opaque(why, _, parts) if why in _ITEM_OF and any(map(self.gives, parts)):
                yield value
            case Comprehension(_, sources, _) if any(map(self.gives, sources)):
                yield value
        for child in children:
            yield from self.parts(child)

    def gives(self, value: Value) -> bool:
        """Whether a value is the result of the loss, or may be."""
        match value:
            case Call():
                return value == self.loss.call or self._returned(value)
            case Index(Call() as call, position):
                walked = self.reading.inlined.get(call)
                item = item_at(walked.result, position) if walked is not None and walked.result is not None else None
                return item is not None and self.gives(item)
            case Select(_, then, other):
                return self.gives(then) or self.gives(other)
            case Logic(_, items):
                return any(map(self.gives, items))
        return False

    def _returned(self, call: Call) -> bool:
        walked = self.reading.inlined.get(call)
        return walked is not None and walked.result is not None and self.gives(walked.result)
