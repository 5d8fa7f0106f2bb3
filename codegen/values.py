"""What the symbolic walk yields: small frozen trees that say how a name got its value.

    logits = self.lm_head(h) / self.config.cap   ->   Binary("/", Call(Attr(Self(), "lm_head"), ...), Attr(...))

Two values are equal when they were built alike, whatever names they went through. A call that is not
known to be pure carries a `stamp`, so that two calls that look the same still differ. `node` is where
the value stands in the source and takes no part in equality.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """Base of all values; equality is by structure, through a digest that is computed once."""

    node: ast.AST | None = field(default=None, kw_only=True)
    _digest: int | None = field(default=None, kw_only=True, repr=False)

    @property
    def digest(self) -> int:
        return hash(self)

    def _parts(self) -> tuple[Any, ...]:
        kind = type(self)
        read = _READERS.get(kind)
        if read is None:
            read = _READERS[kind] = _reader(kind)
        return read(self)

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and hash(self) == hash(other))

    def __hash__(self) -> int:
        known = self._digest
        if known is None:
            # Values and tuples of values hash by structure; everything else in a value is a name.
            known = hash((type(self).__name__, self._parts()))
            object.__setattr__(self, "_digest", known)
        return known

    def children(self) -> list[Value]:
        """The values that this one is built from, in source order."""
        found: list[Value] = []
        for part in self._parts():
            if isinstance(part, Value):
                found.append(part)
            elif isinstance(part, tuple):
                _collect(part, found)
        return found

    def with_children(self, change: Callable[[Value], Value]) -> Value:
        """The same value over children that `change` gives."""

        def changed(part: Any) -> Any:
            if isinstance(part, Value):
                return change(part)
            return tuple(map(changed, part)) if isinstance(part, tuple) else part

        names: tuple[str, ...] = type(self).__match_args__
        return replace(self, **{name: changed(getattr(self, name)) for name in names}, _digest=None)


def _collect(part: tuple[Any, ...], found: list[Value]) -> None:
    for item in part:
        if isinstance(item, Value):
            found.append(item)
        elif isinstance(item, tuple):
            _collect(item, found)


_READERS: dict[type, Callable[[Any], tuple[Any, ...]]] = {}


def _reader(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    """A function that reads all fields of a kind of value at once, but for its place in the source."""
    names = [each.name for each in fields(kind) if each.name not in ("node", "_digest")]
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


@dataclass(frozen=True, slots=True, eq=False)
class Self(Value):
    """The module whose forward is walked."""


@dataclass(frozen=True, slots=True, eq=False)
class Param(Value):
    """An argument of the walked function."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Const(Value):
    """A literal. Keyed by its spelling: Python hashes -1 and -2, 1 and True alike."""

    value: Any

    def _parts(self) -> tuple[Any, ...]:
        return (repr(self.value),)


@dataclass(frozen=True, slots=True, eq=False)
class Global(Value):
    """A name from outside the function: `torch.nn.functional.linear`, `len`, or `.soft_cap` for one of this file."""

    path: str


@dataclass(frozen=True, slots=True, eq=False)
class Attr(Value):
    base: Value
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Call(Value):
    """A call; `keywords` are (name, value), with the name None for `**value`. `stamp` None: known to be pure."""

    func: Value
    args: tuple[Value, ...]
    keywords: tuple[tuple[str | None, Value], ...] = ()
    stamp: int | None = None

    def keyword(self, name: str) -> Value | None:
        return next((value for key, value in self.keywords if key == name), None)

    def argument(self, position: int, name: str) -> Value | None:
        """The argument at `position` or of `name`, None if neither is given or a `*args` hides the position."""
        head = self.args[: position + 1]
        if len(head) > position and not any(isinstance(arg, Starred) for arg in head):
            return head[position]
        return self.keyword(name)


@dataclass(frozen=True, slots=True, eq=False)
class Binary(Value):
    """`left op right`, comparisons included."""

    op: str
    left: Value
    right: Value


@dataclass(frozen=True, slots=True, eq=False)
class Unary(Value):
    op: str
    operand: Value


@dataclass(frozen=True, slots=True, eq=False)
class Logic(Value):
    """`and`/`or` over several operands."""

    op: str
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Index(Value):
    base: Value
    index: Value


@dataclass(frozen=True, slots=True, eq=False)
class Slice(Value):
    lower: Value | None
    upper: Value | None
    step: Value | None


@dataclass(frozen=True, slots=True, eq=False)
class Sequence(Value):
    """A tuple, list or set display."""

    kind: str
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Mapping(Value):
    items: tuple[tuple[Value | None, Value], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Starred(Value):
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class Comprehension(Value):
    """`[element for ... in sources if conditions]`."""

    element: Value
    sources: tuple[Value, ...]
    conditions: tuple[Value, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Select(Value):
    """`then` where `test` holds, else `other`: what a name is after an `if`."""

    test: Value
    then: Value
    other: Value


@dataclass(frozen=True, slots=True, eq=False)
class Store(Value):
    """`base` after `base[index] = value`."""

    base: Value
    index: Value
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class Opaque(Value):
    """Something that the walk has no rule for; `parts` are the values that went in. Never equal to another."""

    why: str
    stamp: int
    parts: tuple[Value, ...] = ()


NONE = Const(None)


def is_none(value: Value | None) -> bool:
    return isinstance(value, Const) and value.value is None


def is_unbound(value: Value) -> bool:
    """What a name holds where nothing has bound it: reading it raises."""
    return isinstance(value, Opaque) and value.why == "unbound"


def may_be_unbound(value: Value) -> bool:
    """Whether a name that holds this is bound on some ways only."""
    if isinstance(value, Select):
        return may_be_unbound(value.then) or may_be_unbound(value.other)
    return is_unbound(value)


def unplaced(value: Value) -> Value:
    """The same value as something that nobody has read yet: it stands nowhere in the source."""
    return replace(value.with_children(unplaced), node=None)


def negate(test: Value) -> Value:
    """The opposite of a condition, without piling up `not`. It stands nowhere in the source, so it has no node."""
    match test:
        case Unary("not", operand):
            return operand
        case Binary("is", left, right):
            return Binary("is not", left, right)
        case Binary("is not", left, right):
            return Binary("is", left, right)
        case _:
            return Unary("not", test)


def describe(value: Value, limit: int = 100) -> str:
    """A value for people: with names resolved where that is short, else as it stands in the source."""
    if isinstance(value, Unary) and value.op == "not":
        return f"not ({describe(value.operand, limit)})"
    text = render(value, limit)
    if ("…" in text or "<" in text or len(text) > 60) and isinstance(value.node, ast.expr):
        text = ast.unparse(value.node)
        text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text


_BRACKETS = {"list": ("[", "]"), "set": ("{", "}")}
_PRECEDENCE = {"*": 6, "/": 6, "//": 6, "%": 6, "@": 6, "+": 5, "-": 5, "**": 8}


def render(value: Value, limit: int = 160) -> str:
    """A value as Python text with names resolved: `cap` reads `self.config.logits_soft_cap`."""
    text = _text(value, 0)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _text(value: Value, depth: int) -> str:
    if depth > 12:
        return "…"
    deeper = depth + 1
    match value:
        case Self():
            return "self"
        case Param(name):
            return name
        case Const(constant):
            return "..." if constant is Ellipsis else repr(constant)
        case Global(path):
            return path.lstrip(".")
        case Attr(base, name):
            return f"{_atom(base, deeper)}.{name}"
        case Call(func, args, keywords):
            parts = [_text(arg, deeper) for arg in args]
            parts += [f"{key}={_text(item, deeper)}" if key else f"**{_text(item, deeper)}" for key, item in keywords]
            return f"{_atom(func, deeper)}({', '.join(parts)})"
        case Binary(op, left, right):
            return f"{_operand(left, op, deeper)} {op} {_operand(right, op, deeper)}"
        case Unary(op, operand):
            return f"not {_atom(operand, deeper)}" if op == "not" else f"{op}{_atom(operand, deeper)}"
        case Logic(op, items):
            return f" {op} ".join(
                _atom(item, deeper) if isinstance(item, Logic) else _text(item, deeper) for item in items
            )
        case Index(base, index):
            inner = _text(index, deeper)
            if isinstance(index, Sequence) and index.kind == "tuple" and index.items:
                inner = ", ".join(_text(item, deeper) for item in index.items)
            return f"{_atom(base, deeper)}[{inner}]"
        case Slice(lower, upper, step):
            ends = [_text(end, deeper) if end else "" for end in (lower, upper)]
            return ":".join(ends + ([_text(step, deeper)] if step else []))
        case Sequence(kind, items):
            inner = ", ".join(_text(item, deeper) for item in items)
            opening, closing = _BRACKETS.get(kind, ("(", ")"))
            return f"{opening}{inner}{',' if kind == 'tuple' and len(items) == 1 else ''}{closing}"
        case Mapping(items):
            return "{" + ", ".join(f"{_text(k, deeper) if k else '**'}: {_text(v, deeper)}" for k, v in items) + "}"
        case Starred(inner_value):
            return f"*{_atom(inner_value, deeper)}"
        case Comprehension(element, sources, _):
            return f"[{_text(element, deeper)} for … in {', '.join(_text(source, deeper) for source in sources)}]"
        case Select(test, then, other):
            return f"{_atom(then, deeper)} if {_text(test, deeper)} else {_atom(other, deeper)}"
        case Store(base, index, stored):
            return f"{_atom(base, deeper)} with [{_text(index, deeper)}] = {_text(stored, deeper)}"
        case Opaque(why):
            return f"<{why}>"
    raise TypeError(f"no text for {type(value).__name__}")


def _atom(value: Value, depth: int) -> str:
    text = _text(value, depth)
    return f"({text})" if isinstance(value, Binary | Unary | Logic | Select | Store) else text


def _operand(value: Value, op: str, depth: int) -> str:
    text = _text(value, depth)
    if isinstance(value, Logic | Select | Store):
        return f"({text})"
    if isinstance(value, Binary) and _PRECEDENCE.get(value.op, 0) <= _PRECEDENCE.get(op, 0):
        return f"({text})"
    return text
