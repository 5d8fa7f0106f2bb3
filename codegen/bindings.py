"""What is known at one point of a walk: what names and attributes hold, under which conditions, and what left it.

It must be sound, not complete: a tensor that changes in place ends every name that may share it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fusegen.codegen.storage import is_container, roots
from fusegen.codegen.values import Attr, Call, Const, Global, Opaque, Select, Value

Environment = dict[str, Value]


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call in the order of evaluation, the conditions around it, and what encloses it (`for`, `with`, ...)."""

    call: Call
    path: tuple[Value, ...]
    inside: str | None


@dataclass(frozen=True, slots=True)
class Sink:
    """A value that leaves the walk: `return`, `test`, `attribute` (stored on an object), `closure`, `in-place`."""

    kind: str
    value: Value
    node: ast.AST
    path: tuple[Value, ...] = ()


@dataclass(slots=True)
class Trace:
    """All that a function computes: its calls, its sinks, its attribute stores and its joined result.

    `loads` is what each name held where it was read, by the `id` of its node.
    `before` is what names hold before each statement, by its `id`, where that was asked for.
    """

    calls: list[CallRecord] = field(default_factory=list)
    sinks: list[Sink] = field(default_factory=list)
    stores: list[tuple[Attr, Value, tuple[Value, ...]]] = field(default_factory=list)
    loads: dict[int, Value] = field(default_factory=dict)
    result: Value | None = None
    before: dict[int, Environment] = field(default_factory=dict)


class Bindings:
    """The state of a walk, and the ways in which it changes.

    `env` holds the values of names (and of attributes that were set), `path` the conditions and `inside` the enclosing
    `for`, `with`, ... of the place that the walk is at; `trace` collects what was found.
    """

    def __init__(self, resolve: Callable[[str], Value], stamps: Iterable[int] | None) -> None:
        self.resolve = resolve
        self.trace = Trace()
        self.env: Environment = {}
        self.path: list[Value] = []
        self.inside: list[str] = []
        self.captured: set[str] = set()
        self.unstable: set[str] = set()
        self.returns_enclosed = False
        self._places = False
        self._roots: dict[int, frozenset[int]] = {}
        self._stamps = iter(stamps) if stamps is not None else iter(range(1 << 60))

    def bind(self, name: str, value: Value) -> None:
        if name in self.unstable:
            value = self.opaque("bound by a nested function", value.node or ast.Pass(), value)
        self.env[name] = value
        if name in self.captured:
            self.sink("closure", value, value.node or ast.Pass())

    def place(self, place: Attr, value: Value) -> None:
        """From here on, the attribute holds `value`."""
        self.env[_place(place)] = value
        self._places = True

    def attribute(self, base: Value, name: str, node: ast.AST) -> Value:
        if isinstance(base, Global):
            return Global(f"{base.path}.{name}", node=node)
        place = Attr(base, name, node=node)
        return self.env.get(_place(place), place) if self._places else place

    def mutate(self, old: Value, new: Value) -> None:
        """`old` was changed in place into `new`: no other name that may share its tensor keeps its value."""
        self.sink("changed", old, new.node or ast.Pass())
        roots = self.roots(old)
        if not roots and not is_container(old):
            return
        if isinstance(old, Attr):
            self.place(old, new)
        for name, value in list(self.env.items()):
            if value is old:
                self.bind(name, new)
            elif not roots.isdisjoint(self.roots(value)):
                self.bind(
                    name,
                    Opaque("part of a tensor that was changed in place", self.stamp(), (value, new), node=new.node),
                )

    def capture(self, node: ast.AST) -> None:
        """A nested function sees the names around it, now and later."""
        for child in ast.walk(node):
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load):
                self.captured.add(child.id)
                if child.id in self.env:
                    self.sink("closure", self.env[child.id], child)
            elif isinstance(child, ast.Nonlocal):
                self.unstable.update(child.names)
                for name in child.names:
                    self.bind(name, self.env.get(name, Const(None)))

    def read_names(self, node: ast.AST) -> list[Value]:
        return [self.env[child.id] for child in ast.walk(node) if isinstance(child, ast.Name) and child.id in self.env]

    def sink(self, kind: str, value: Value, node: ast.AST) -> None:
        self.trace.sinks.append(Sink(kind, value, node, tuple(self.path)))

    def stamp(self) -> int:
        return next(self._stamps)

    def opaque(self, why: str, node: ast.AST, *parts: Value) -> Opaque:
        return Opaque(why, self.stamp(), parts, node=node)

    def roots(self, value: Value) -> frozenset[int]:
        """Digests of the tensors and objects whose storage `value` may share; none for what has no storage."""
        return roots(value, self._roots)


def _place(place: Attr) -> str:
    return f"@{place.digest}"


def join(test: Value, then: Environment, other: Environment, node: ast.AST) -> Environment:
    """What names hold after `then` where `test` holds, and `other` where it does not."""
    joined: Environment = {}
    for name in dict.fromkeys((*then, *other)):
        left, right = then.get(name), other.get(name)
        if left is None or right is None:
            present = left if left is not None else right
            assert present is not None
            if name.startswith("@"):
                joined[name] = Opaque("attribute set under a condition", -1, (present,), node=node)
                continue
            unbound = Opaque("unbound", -1)
            joined[name] = (
                Select(test, present, unbound, node=node)
                if left is not None
                else Select(test, unbound, present, node=node)
            )
        elif left is right or left == right:
            joined[name] = left
        else:
            joined[name] = Select(test, left, right, node=node)
    return joined
