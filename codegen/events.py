"""What a walk found at each node, and the nodes that run with a statement: what `effects` asks about.

Events.of(trace).calls[id(node)]     the calls that `node` may be, one for each way on which it runs
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from fusegen.codegen.bindings import Trace
from fusegen.codegen.values import Attr, Call, Value

# Builtins that only look at an object.
_LOOKS = frozenset(["isinstance", "hasattr", "getattr", "type", "id", "issubclass"])


@dataclass(frozen=True, slots=True)
class Touch:
    """What may change something that is read, and the line where it stands."""

    what: str
    line: int


@dataclass(slots=True)
class Events:
    """What a walk found, by the node where it stands."""

    loads: dict[int, Value]
    calls: dict[int, list[Call]] = field(default_factory=dict)
    changed: dict[int, list[Value]] = field(default_factory=dict)
    stores: dict[int, list[Attr]] = field(default_factory=dict)

    @classmethod
    def of(cls, trace: Trace) -> Events:
        events = cls(trace.loads)
        for record in trace.calls:
            events.calls.setdefault(id(record.call.node), []).append(record.call)
        for sink in trace.sinks:
            if sink.kind == "changed":
                events.changed.setdefault(id(sink.node), []).append(sink.value)
        for place, _, _ in trace.stores:
            events.stores.setdefault(id(place.node), []).append(place)
        return events


def visible(root: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run with a statement: not those in the body of a function that it defines."""
    waiting = [root]
    while waiting:
        node = waiting.pop(0)
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += [*node.decorator_list, *node.args.defaults, *(each for each in node.args.kw_defaults if each)]
        elif not isinstance(node, ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def looked_at(node: ast.AST) -> Iterator[ast.expr]:
    """Names that a node only reads attributes of, or looks at."""
    match node:
        case ast.Attribute(value=value):
            yield value
        case ast.Call(func=ast.Name(id=name), args=args) if name in _LOOKS:
            yield from args
