"""What a statement between head and loss may change: in the fused branch it runs before the head's product, not after.

    logits = self.lm_head(h) * self.scale            self.step()        # sets self.scale
    self.step()                               ->     loss = causal_lm_loss(h, self.lm_head, ..., scale=self.scale)

Methods and functions of the file are looked into; what stands elsewhere is taken by torch's conventions.
"""

from __future__ import annotations

import ast

from fusegen.codegen.arguments import VocabularyCall
from fusegen.codegen.bindings import Trace
from fusegen.codegen.findings import Analysis
from fusegen.codegen.operands import is_module_path
from fusegen.codegen.storage import roots
from fusegen.codegen.values import Attr, Call, Global, Index, Opaque, Param, Self, Value, describe

_DEEPEST = 4


class Effects:
    """The effects of statements on what the heads of some losses read."""

    def __init__(self, analysis: Analysis, losses: list[VocabularyCall]) -> None:
        self.analysis = analysis
        self.reading = analysis.reading
        self.ways = {value for loss in losses for value in (*loss.chain.trail, *loss.chain.also)}
        self.passed = {id(loss.node) for loss in losses}
        self._roots: dict[int, frozenset[int]] = {}
        self.moved = frozenset[int]().union(*(self._shared(loss.chain.head.hidden) for loss in losses))

    def disturbing(self, statement: ast.stmt) -> str | None:
        """What a statement does that the hidden states, the head or an operand may notice, or None."""
        nodes = {id(node) for node in ast.walk(statement)}
        for sink in self.analysis.walked.sinks:
            if sink.kind == "changed" and id(sink.node) in nodes and self._is_read(sink.value):
                return f"changes `{describe(sink.value, 60)}` in place"
        for record in self.analysis.walked.calls:
            if id(record.call.node) in nodes - self.passed and self._may_disturb(record.call, 0):
                return f"calls `{describe(record.call.func, 60)}`, which may change what the head reads"
        return None

    def lost(self, statement: ast.stmt) -> str | None:
        """What a statement calls besides operations on the logits, so that it cannot be left out, or None."""
        nodes = {id(node) for node in ast.walk(statement)}
        for record in self.analysis.walked.calls:
            call = record.call
            if id(call.node) in nodes and call.stamp is not None and call not in self.ways:
                return f"`{describe(call.func, 60)}`"
        return None

    def _shared(self, value: Value) -> frozenset[int]:
        return roots(value, self._roots)

    def _is_read(self, value: Value) -> bool:
        return is_module_path(value) or not self.moved.isdisjoint(self._shared(value))

    def _may_disturb(self, call: Call, depth: int) -> bool:
        if call.stamp is None or call in self.ways:
            return False
        match call.func:
            case Opaque() | Param() | Attr(Call(Global("super"))):
                return True
            case Global(path):
                known = path.startswith(".") and path[1:] in self.reading.scope.index.functions
                return known and self._changes(call, depth)
            case Attr() | Index() as place if is_module_path(place):
                # A module changes itself at most; a method of this one may change anything in it.
                own = place.base == Self() and not self.reading.scope.at(self.reading.owner or "", place)
                return (own or self.reading.walk_inside(call) is not None) and self._changes(call, depth)
        return False

    def _changes(self, call: Call, depth: int) -> bool:
        """Whether a function of this file may: it stores, changes in place, or calls something that does."""
        inner: Trace | None = self.reading.walk_inside(call)
        if inner is None or depth > _DEEPEST:
            return True
        return (
            bool(inner.stores)
            or any(sink.kind == "changed" and self._is_read(sink.value) for sink in inner.sinks)
            or any(self._may_disturb(record.call, depth + 1) for record in inner.calls)
        )
