"""Every use of the logits besides their loss: returned, asked for a shape, or read in a way that forbids fusing.

The values that a walk lets out (results, conditions, attributes, arguments of calls) are searched for the
logits. On the way a loss call is a wall: what it does with the logits is known.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from fusegen.codegen.bindings import Trace
from fusegen.codegen.chain import Chain, peel
from fusegen.codegen.expressions import item_at
from fusegen.codegen.guard import Guard, guard
from fusegen.codegen.logit_ops.step import Refusal
from fusegen.codegen.reading import Reading, is_static
from fusegen.codegen.records import Use
from fusegen.codegen.storage import is_output_class
from fusegen.codegen.values import (
    Attr,
    Binary,
    Call,
    Comprehension,
    Global,
    Index,
    Mapping,
    Select,
    Self,
    Sequence,
    Starred,
    Value,
    describe,
    negate,
)

_OPERATION_MODULES = frozenset(("torch", "torch.nn.functional", "torch.linalg", "torch.special", "torch.fft"))
_METADATA_ATTRIBUTES = frozenset(["shape", "device", "dtype", "ndim", "is_cuda"])
_METADATA_METHODS = frozenset(["size", "dim", "numel", "is_contiguous", "element_size", "get_device"])
_CONTEXTS = {"test": "FG404", "attribute": "FG403", "call": "FG402", "closure": "FG402"}
_WRAPPERS = frozenset(("tuple", "list", "dict"))
_READERS = frozenset(("len", "sum", "getattr"))
# Methods of a tensor that hand it, or its gradient, to somebody else.
_ESCAPES = frozenset(
    ["register_hook", "register_post_accumulate_grad_hook", "retain_grad", "backward", "numpy", "share_memory_"]
)
_HOLDER_METHODS = frozenset(["to_tuple", "items", "keys", "values", "get", "append", "extend", "update", "pop"])


@dataclass(slots=True)
class Uses:
    """What was found: uses in order, guards that they need, and the first one that forbids fusing."""

    found: list[Use] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)
    refusal: Refusal | None = None

    @property
    def texts(self) -> list[str]:
        """The guards for people."""
        return [guard.text for guard in self.guards]


def find_uses(walked: Trace, chains: list[Chain], loss_calls: set[Call], given: set[Value], reading: Reading) -> Uses:
    """All uses of the logits of `chains` in a walk, in the calls of this file that it looks into as well.

    `given` are the conditions under which the losses are computed; others may become guards.
    """
    search = _Search(chains, loss_calls, given, reading)
    search.trace(walked, returns=True)
    paths = {record.call: record.path for record in walked.calls}
    for call, inner in list(reading.inlined.items()):
        if inner is not None and any(search.touches(argument) for argument in search.arguments(call)):
            before = search.uses.refusal
            search.trace(inner, returns=False)
            search.forgive(before, paths.get(call, ()))
    return search.uses


class _Search:
    def __init__(self, chains: list[Chain], loss_calls: set[Call], given: set[Value], reading: Reading) -> None:
        self.logits = {value for chain in chains for value in (*chain.trail, *chain.also)}
        self.heads = {chain.head.value for chain in chains}
        self.loss_calls = loss_calls
        self.given = given
        self.reading = reading
        self.uses = Uses()
        self.place: ast.AST | None = None
        self.path: tuple[Value, ...] = ()
        self._touches: dict[Value, bool] = {}

    def trace(self, walked: Trace, returns: bool) -> None:
        for record in walked.calls:
            self.place = record.call.node
            before = self.uses.refusal
            self.call(record.call)
            self.forgive(before, record.path)
        for sink in walked.sinks:
            if sink.kind == "changed" and returns:
                continue  # The names of this walk say what became of it.
            self.place = sink.node if hasattr(sink.node, "lineno") else None
            self.path = sink.path
            if sink.kind != "return":
                self.visit(sink.value, sink.kind)
            elif returns:
                self.visit(sink.value, "output")

    def call(self, call: Call) -> None:
        """A call that gets logits and is neither a loss, nor followed, nor an operation of torch, lets them out."""
        if call in self.loss_calls or call in self.logits or self.reading.inlined.get(call) is not None:
            return
        match call.func:
            case Global(path) if _is_operation(path) or path in _WRAPPERS or is_output_class(path) or path in _READERS:
                return
            case Attr(base, name) if self.touches(base):
                if name in _ESCAPES or (_holds(base) and name not in _HOLDER_METHODS):
                    self.visit(base, "call")
                return
        for argument in self.arguments(call):
            self.visit(argument, "call")

    def arguments(self, call: Call) -> list[Value]:
        return [*call.args, *(value for _, value in call.keywords)]

    def touches(self, value: Value) -> bool:
        """Whether the logits are in what a value is made of."""
        known = self._touches.get(value)
        if known is None:
            self._touches[value] = False
            known = (
                value in self.logits
                or any(self.touches(child) for child in value.children())
                or self._touches_inside(value)
            )
            self._touches[value] = known
        return known

    def _touches_inside(self, value: Value) -> bool:
        walked = self.reading.inlined.get(value) if isinstance(value, Call) else None
        return walked is not None and walked.result is not None and self.touches(walked.result)

    def visit(self, value: Value, context: str) -> None:
        """Record how the logits occur in `value`, which leaves the function by way of `context`."""
        if not self.touches(value) or (isinstance(value, Call) and value in self.loss_calls):
            return
        if value in self.logits:
            self.occurrence(value, context)
            return
        match value:
            case Attr(base, name) if name in _METADATA_ATTRIBUTES:
                self.metadata(base, value)
            case Call(Attr(base, name)) if name in _METADATA_METHODS:
                self.metadata(base, value)
            case Index() if (item := self._item(value)) is not None:
                self.visit(item, context)
            case Call() if (result := self._result(value)) is not None:
                self.visit(result, context)
            case Call(Global(path)) if context == "output" and (is_output_class(path) or path in _WRAPPERS):
                for argument in self.arguments(value):
                    self.visit(argument, context)
            case Sequence() | Starred() | Mapping():
                for child in value.children():
                    self.visit(child, context)
            case Select(test, then, other):
                self.visit(test, "test")
                self.branch(test, then, context)
                self.branch(negate(test), other, context)
            case Comprehension(element, sources, conditions) if context == "output":
                for source in sources:
                    self.visit(source, context)
                for part in (element, *conditions):
                    self.filtered(part, value)
            case Binary("+", left, right) if context == "output" and (_is_tuple(left) or _is_tuple(right)):
                self.visit(left, context)
                self.visit(right, context)
            case _ if context == "output" and self._same_head(value):
                self.record("output", value)
            case _:
                outer, self.place = self.place, value.node or self.place
                for child in value.children():
                    self.visit(child, context if context in _CONTEXTS else "value")
                self.place = outer

    def branch(self, condition: Value, value: Value, context: str) -> None:
        before = self.uses.refusal
        self.visit(value, context)
        self.forgive(before, (condition,))

    def forgive(self, before: Refusal | None, path: tuple[Value, ...]) -> None:
        """A use that forbids fusing, under a condition that can be checked beforehand, makes its opposite a guard."""
        condition = next((test for test in path if is_static(test) and test not in self.given), None)
        if self.uses.refusal is not before and condition is not None:
            self.uses.refusal = before
            self.uses.guards.append(guard(negate(condition)))

    def filtered(self, part: Value, comprehension: Value) -> None:
        """`tuple(v for v in (loss, logits) if v is not None)` gets shorter without logits: only for tuple returns."""
        text = f"the output is no tuple that leaves out what is None (line {getattr(comprehension.node, 'lineno', 0)})"
        if self.touches(part):
            condition = next((test for test in reversed(self.path) if is_static(test) and test not in self.given), None)
            self.uses.guards.append(Guard(negate(condition) if condition is not None else None, text))

    def occurrence(self, value: Value, context: str) -> None:
        if context == "output":
            self.record("output", value)
        elif self.uses.refusal is None:
            code = _CONTEXTS.get(context, "FG401")
            self.uses.refusal = Refusal(code, self.place or value.node, f"`{describe(value)}`")

    def metadata(self, base: Value, value: Value) -> None:
        """A shape, device or dtype; that of the loss is nobody's concern."""
        if not (isinstance(base, Call) and base in self.loss_calls):
            self.record("metadata", value)

    def record(self, kind: str, value: Value) -> None:
        use = Use(kind, describe(value), getattr(value.node, "lineno", 0))
        if use not in self.uses.found:
            self.uses.found.append(use)

    def _item(self, value: Index) -> Value | None:
        """`self.helper(logits)[0]`: what the helper returns there."""
        result = self._result(value.base)
        return item_at(result, value.index) if result is not None else None

    def _result(self, value: Value) -> Value | None:
        walked = self.reading.inlined.get(value) if isinstance(value, Call) else None
        return walked.result if walked is not None else None

    def _same_head(self, value: Value) -> bool:
        chain = peel(value, self.reading)
        return isinstance(chain, Chain) and chain.head.value in self.heads


def _is_operation(path: str) -> bool:
    """A function of torch that computes something new from tensors: `torch.x`, `torch.nn.functional.x`, ..."""
    module, _, name = path.rpartition(".")
    return module in _OPERATION_MODULES and name != "save" and not name.startswith("_")


def _holds(value: Value) -> bool:
    match value:
        case Mapping() | Sequence():
            return True
        case Call(Global(path)):
            return is_output_class(path)
    return False


def _is_tuple(value: Value) -> bool:
    match value:
        case Sequence():
            return True
        case Binary("+", left, right):
            return _is_tuple(left) or _is_tuple(right)
        case Select(_, then, other):
            return _is_tuple(then) or _is_tuple(other)
        case Index(base, _):
            return not isinstance(base, Self)
    return False
