"""Walk a function's statements and say what every name, call and result is made of.

    hidden = self.model(x)[0]
    logits = self.lm_head(hidden)          calls:   self.lm_head(self.model(x)[0])
    if self.cap is not None:               returns: Out(logits=Select(self.cap is not None, ..., ...))
        logits = logits / self.cap
    return Out(logits=logits)

This is the only file that knows Python's statements. It must be sound, not complete: what has no rule is
`Opaque`; a store or a `method_()` ends every name that may share the tensor; names that a loop, `with` or
`try` binds are `Opaque` after it; two calls that may differ do differ.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fusegen.codegen.storage import SHARING_ATTRIBUTES, VIEWS, changed_by, is_container, is_made_of_torch, roots
from fusegen.codegen.syntax import COMPARISONS, OPERATORS, UNARY, bound_in
from fusegen.codegen.values import (
    Attr,
    Binary,
    Call,
    Comprehension,
    Const,
    Global,
    Index,
    Logic,
    Mapping,
    Opaque,
    Param,
    Select,
    Self,
    Sequence,
    Slice,
    Starred,
    Store,
    Unary,
    Value,
    negate,
)

# Methods and functions of which two equal calls give equal values.
_PURE_METHODS = VIEWS | frozenset(
    "size dim numel get_text_config get_decoder item cpu cuda tanh logsumexp masked_fill ne eq bool "  # noqa: SIM905
    "long int index_select".split()
)
_PURE_FUNCTIONS = frozenset(
    "len int float getattr hasattr isinstance slice range min max abs math.sqrt torch.tanh "  # noqa: SIM905
    "torch.nn.functional.tanh torch.finfo torch.transpose torch.is_tensor torch.clamp".split()
)


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
    """All that a function computes: its calls, its sinks, its attribute stores and its joined result."""

    calls: list[CallRecord] = field(default_factory=list)
    sinks: list[Sink] = field(default_factory=list)
    stores: list[tuple[Attr, Value, tuple[Value, ...]]] = field(default_factory=list)
    result: Value | None = None


Environment = dict[str, Value]


def trace(
    function: ast.FunctionDef,
    resolve: Callable[[str], Value],
    bindings: Environment | None = None,
    stamps: Iterable[int] | None = None,
) -> Trace:
    """Walk `function`.

    `resolve` gives the value of a name that the function does not bind. `bindings` are values of its
    parameters (default: `self` is `Self()`, every other one a `Param`). `stamps` numbers impure calls: share
    it between walks whose values meet.
    """
    walker = _Walker(resolve, stamps)
    environment: Environment = {}
    arguments = function.args
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
        if argument is not None:
            environment[argument.arg] = Self() if argument.arg == "self" else Param(argument.arg, node=argument)
    environment.update(bindings or {})
    walker.env = environment
    if isinstance(function, ast.AsyncFunctionDef):
        walker.inside.append("async")
    if walker.block(function.body):
        walker.sink("return", Const(None), function)
    walker.trace.result = walker.joined_result()
    return walker.trace


class _Walker:
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

    # -- statements ------------------------------------------------------------------------------------------

    def block(self, statements: list[ast.stmt]) -> bool:
        """Walk statements in order; False if control never falls off their end."""
        entered = len(self.path)
        alive = True
        for statement in statements:
            if not self.statement(statement):
                alive = False
                break
        del self.path[entered:]
        return alive

    def statement(self, node: ast.stmt) -> bool:
        match node:
            case ast.Assign(targets=targets, value=value):
                result = self.evaluate(value)
                for target in targets:
                    self.assign(target, result)
            case ast.AnnAssign(target=target, value=value):
                if value is not None:
                    self.assign(target, self.evaluate(value))
            case ast.AugAssign(target=target, op=op, value=value):
                self.augment(target, OPERATORS.get(type(op), "?"), self.evaluate(value), node)
            case ast.Expr(value=value):
                if not isinstance(value, ast.Constant):
                    self.evaluate(value)
            case ast.If():
                return self.branch(node)
            case ast.Return(value=value):
                result = self.evaluate(value) if value is not None else Const(None)
                self.sink("return", result, node)
                self.returns_enclosed = self.returns_enclosed or bool(self.inside)
                return False
            case ast.Raise():
                return False
            case ast.Break() | ast.Continue():
                return False
            case ast.Assert(test=test):
                self.sink("test", self.evaluate(test), node)
            case ast.Delete(targets=targets):
                for target in targets:
                    if isinstance(target, ast.Name):
                        self.env.pop(target.id, None)
                    else:
                        if isinstance(target, ast.Subscript):
                            self.sink("test", self.evaluate(target.slice), target)
                        self.clobber_target(target)
            case (
                ast.For(target=target, iter=iterator, body=body, orelse=orelse)
                | ast.AsyncFor(target=target, iter=iterator, body=body, orelse=orelse)
            ):
                source = self.evaluate(iterator)
                self.enclosed("for", body, [target], source, orelse)
            case ast.While(test=test, body=body, orelse=orelse):
                self.forget([*body, ast.Expr(test)])
                self.sink("test", self.evaluate(test), node)
                self.enclosed("while", body, [], None, orelse)
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                contexts = [self.evaluate(item.context_expr) for item in items]
                targets = [item.optional_vars for item in items if item.optional_vars is not None]
                source = Opaque("with", self.stamp(), tuple(contexts), node=node)
                return self.enclosed("with", body, targets, source, [])
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=finalbody):
                self.enclosed("try", body, [], None, orelse)
                for handler in handlers:
                    self.enclosed("try", handler.body, [], None, [])
                return self.block(finalbody)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self.capture(node)
                self.env[node.name] = Opaque("nested definition", self.stamp(), node=node)
            case ast.Import(names=names):
                for alias in names:
                    self.env[alias.asname or alias.name.split(".")[0]] = Global(
                        alias.name if alias.asname else alias.name.split(".")[0]
                    )
            case ast.ImportFrom(module=module, names=names, level=level):
                for alias in names:
                    self.env[alias.asname or alias.name] = Global(f"{'.' * level}{module or ''}.{alias.name}")
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                self.captured.update(names)
            case ast.Pass():
                pass
            case _:
                self.returns_enclosed |= any(isinstance(child, ast.Return) for child in ast.walk(node))
                self.sink("opaque statement", self.opaque(type(node).__name__, node, *self.read_names(node)), node)
                self.forget([node])
        return True

    def branch(self, node: ast.If) -> bool:
        test = self.evaluate(node.test)
        self.sink("test", test, node.test)
        before = self.env
        self.env = dict(before)
        self.path.append(test)
        then_alive = self.block(node.body)
        then_env = self.env
        self.path[-1] = negate(test)
        self.env = dict(before)
        else_alive = self.block(node.orelse)
        else_env = self.env
        self.path.pop()
        if then_alive and else_alive:
            self.env = _join(test, then_env, else_env, node)
        elif then_alive:
            self.env = then_env
            self.path.append(test)
        elif else_alive:
            self.env = else_env
            self.path.append(negate(test))
        return then_alive or else_alive

    def enclosed(
        self, kind: str, body: list[ast.stmt], targets: list[ast.expr], source: Value | None, orelse: list[ast.stmt]
    ) -> bool:
        """A body that may run any number of times, or whose names mean something else outside of it."""
        self.forget(body)
        parts = (source,) if source is not None else ()
        for target in targets:
            self.assign(target, self.opaque(f"{kind} target", target, *parts))
        self.inside.append(kind)
        alive = self.block(body)
        self.inside.pop()
        self.forget(body)
        self.block(orelse)
        self.forget(orelse)
        return alive if kind == "with" else True

    def forget(self, body: list[ast.stmt]) -> None:
        """Make every name and attribute that `body` binds or mutates opaque; a name remembers what it may hold."""
        names, attributes = bound_in(body)
        for name in sorted(names):
            if name in self.env:
                self.bind(name, Opaque("bound in a loop, with or try", self.stamp(), (self.env[name],)))
        for attribute in attributes:
            place = Attr(self.evaluate(attribute.value), attribute.attr)
            self.place(place, self.opaque("bound in a loop, with or try", attribute, place))

    # -- binding ---------------------------------------------------------------------------------------------

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

    def assign(self, target: ast.expr, value: Value) -> None:
        match target:
            case ast.Name(id=name):
                self.bind(name, value)
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                starred = any(isinstance(element, ast.Starred) for element in elements)
                for position, element in enumerate(elements):
                    if isinstance(element, ast.Starred):
                        self.assign(element.value, self.opaque("starred target", element, value))
                    elif isinstance(value, Sequence) and not starred and len(value.items) == len(elements):
                        self.assign(element, value.items[position])
                    elif starred:
                        self.assign(element, self.opaque("starred target", element, value))
                    else:
                        self.assign(element, Index(value, Const(position), node=element))
            case ast.Attribute(value=base, attr=name):
                place = Attr(self.evaluate(base), name, node=target)
                if _is_move_of(value, place):
                    return
                self.store(place, value, target)
            case ast.Subscript(value=base, slice=index):
                owner = self.evaluate(base)
                stored = Store(owner, self.evaluate(index), value, node=target)
                if not is_container(owner):
                    self.sink("attribute", value, target)
                if isinstance(base, ast.Name):
                    self.mutate(owner, stored)
                    self.bind(base.id, stored)
                else:
                    self.mutate(owner, self.opaque("stored into", target, owner, value))
            case ast.Starred(value=inner):
                self.assign(inner, self.opaque("starred target", target, value))

    def store(self, place: Attr, value: Value, node: ast.AST) -> None:
        self.trace.stores.append((place, value, tuple(self.path)))
        self.sink("attribute", value, node)
        if place.name in SHARING_ATTRIBUTES or is_made_of_torch(place.base):
            self.mutate(place.base, self.opaque("changed in place", node, place.base, value))
        self.place(place, value)

    def augment(self, target: ast.expr, op: str, value: Value, node: ast.AST) -> None:
        if isinstance(target, ast.Name):
            old = self.evaluate(target)
            new = Binary(op, old, value, node=node)
            self.env.pop(target.id, None)
            other = self.opaque("may share what was changed in place", node, old, value)
            if is_container(old):
                # The container gets longer; what it holds stays as it is.
                for name in [name for name, held in self.env.items() if held is old]:
                    self.bind(name, other)
            else:
                self.mutate(old, other)
            self.bind(target.id, new)
        else:
            self.sink("in-place", value, node)
            self.clobber_target(target)

    def clobber_target(self, target: ast.expr) -> None:
        """Something behind an attribute or subscript changed: what may share it is unknown from here on."""
        base = (
            self.evaluate(target.value) if isinstance(target, ast.Attribute | ast.Subscript) else self.evaluate(target)
        )
        self.mutate(base, self.opaque("changed in place", target, base))
        if isinstance(target, ast.Attribute):
            place = Attr(base, target.attr)
            self.place(place, self.opaque("changed in place", target, place))

    def mutate(self, old: Value, new: Value) -> None:
        """`old` was changed in place into `new`: no other name that may share its tensor keeps its value."""
        roots = self.roots(old)
        if not roots:
            return
        self.sink("changed", old, new.node or ast.Pass())
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

    def joined_result(self) -> Value | None:
        """What the function returns, over all its return statements; None if one of them cannot be placed."""
        returns = [sink for sink in self.trace.sinks if sink.kind == "return"]
        if not returns or self.returns_enclosed:
            return None
        result = returns[-1].value
        for sink in reversed(returns[:-1]):
            if len(sink.path) == 0:
                return None
            test = sink.path[0] if len(sink.path) == 1 else Logic("and", sink.path)
            result = Select(test, sink.value, result, node=sink.node)
        return result

    # -- expressions -----------------------------------------------------------------------------------------

    def evaluate(self, node: ast.expr) -> Value:
        match node:
            case ast.Name(id=name):
                return self.env[name] if name in self.env else self.resolve(name)
            case ast.Constant(value=value):
                return Const(value, node=node)
            case ast.Attribute(value=base, attr=name):
                return self.attribute(self.evaluate(base), name, node)
            case ast.Call():
                return self.call(node)
            case ast.BinOp(left=left, op=op, right=right):
                symbol = OPERATORS.get(type(op))
                if symbol is not None:
                    return Binary(symbol, self.evaluate(left), self.evaluate(right), node=node)
            case ast.UnaryOp(op=op, operand=operand):
                inner = self.evaluate(operand)
                if isinstance(op, ast.USub) and isinstance(inner, Const) and isinstance(inner.value, int | float):
                    return Const(-inner.value, node=node)
                return Unary(UNARY[type(op)], inner, node=node)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return Binary(COMPARISONS[type(op)], self.evaluate(left), self.evaluate(right), node=node)
            case ast.BoolOp(op=op, values=values):
                return self.logic("and" if isinstance(op, ast.And) else "or", values, node)
            case ast.Subscript(value=base, slice=index):
                owner, position = self.evaluate(base), self.evaluate(index)
                return _item(owner, position) or Index(owner, position, node=node)
            case ast.Slice(lower=lower, upper=upper, step=step):
                ends = [self.evaluate(end) if end is not None else None for end in (lower, upper, step)]
                return Slice(*ends, node=node)
            case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
                kind = type(node).__name__.lower()
                return Sequence(kind, tuple(self.evaluate(element) for element in elements), node=node)
            case ast.Dict(keys=keys, values=values):
                pairs = tuple(
                    (self.evaluate(k) if k else None, self.evaluate(v)) for k, v in zip(keys, values, strict=True)
                )
                return Mapping(pairs, node=node)
            case ast.Starred(value=value):
                return Starred(self.evaluate(value), node=node)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                condition = self.evaluate(test)
                return self.either(condition, body, orelse, node)
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                result = self.evaluate(value)
                self.bind(name, result)
                return result
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                return self.comprehension(node)
            case ast.Lambda():
                self.capture(node)
        if isinstance(node, ast.JoinedStr | ast.FormattedValue | ast.Compare | ast.BinOp | ast.Await):
            parts = [self.evaluate(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
            return self.opaque(type(node).__name__, node, *parts)
        self.returns_enclosed |= isinstance(node, ast.Yield | ast.YieldFrom)
        result = self.opaque(type(node).__name__, node, *self.read_names(node))
        self.sink("opaque expression", result, node)
        return result

    def either(self, condition: Value, body: ast.expr, orelse: ast.expr, node: ast.AST) -> Value:
        before = self.env
        self.env = dict(before)
        self.path.append(condition)
        then = self.evaluate(body)
        then_env = self.env
        self.path[-1] = negate(condition)
        self.env = dict(before)
        other = self.evaluate(orelse)
        self.path.pop()
        self.env = _join(condition, then_env, self.env, node)
        return then if then == other else Select(condition, then, other, node=node)

    def attribute(self, base: Value, name: str, node: ast.AST) -> Value:
        if isinstance(base, Global):
            return Global(f"{base.path}.{name}", node=node)
        place = Attr(base, name, node=node)
        return self.env.get(_place(place), place) if self._places else place

    def logic(self, op: str, operands: list[ast.expr], node: ast.AST) -> Value:
        """`a and b`: `b` is evaluated, and what it binds is bound, only where `a` holds."""
        items = [self.evaluate(operands[0])]
        entered = len(self.path)
        for operand in operands[1:]:
            condition = items[-1] if op == "and" else negate(items[-1])
            self.path.append(condition)
            before = self.env
            self.env = dict(before)
            items.append(self.evaluate(operand))
            self.env = _join(condition, self.env, before, node) if self.env != before else before
        del self.path[entered:]
        return Logic(op, tuple(items), node=node)

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Value:
        outer = self.env
        self.env = dict(outer)
        self.inside.append("comprehension")
        sources, conditions = [], []
        for generator in node.generators:
            source = self.evaluate(generator.iter)
            sources.append(source)
            self.assign(generator.target, self.opaque("item", generator.target, source))
            conditions += [self.evaluate(condition) for condition in generator.ifs]
        element = self.evaluate(node.elt)
        self.inside.pop()
        inner, self.env = self.env, outer
        own = {
            name.id
            for generator in node.generators
            for name in ast.walk(generator.target)
            if isinstance(name, ast.Name)
        }
        for name, value in inner.items():
            if name not in own and outer.get(name) is not value:
                self.bind(name, self.opaque("bound in a comprehension", node, value))
        return Comprehension(element, tuple(sources), tuple(conditions), node=node)

    def call(self, node: ast.Call) -> Value:
        func = self.evaluate(node.func)
        args = tuple(self.evaluate(arg) for arg in node.args)
        keywords = tuple((keyword.arg, self.evaluate(keyword.value)) for keyword in node.keywords)
        pure = _is_pure(func)
        call = Call(func, args, keywords, None if pure else self.stamp(), node=node)
        self.trace.calls.append(CallRecord(call, tuple(self.path), self.inside[-1] if self.inside else None))
        for changed in changed_by(call):
            self.mutate(changed, self.opaque("changed in place", node, changed, call))
        match call:
            case Call(Global("setattr"), (owner, Const(str(name)), value)):
                self.store(Attr(owner, name, node=node), value, node)
            case Call(Global("exec" | "eval" | "locals")):
                for value in list(self.env.values()):
                    self.sink("closure", value, node)
        return call

    # -- what shares storage ---------------------------------------------------------------------------------

    def roots(self, value: Value) -> frozenset[int]:
        """Digests of the tensors and objects whose storage `value` may share; none for what has no storage."""
        return roots(value, self._roots)


def _is_pure(func: Value) -> bool:
    match func:
        case Global(path):
            return path in _PURE_FUNCTIONS
        case Attr(_, name):
            return name in _PURE_METHODS
    return False


def _is_move_of(value: Value, place: Attr) -> bool:
    """`self.head = self.head.to(device)`: the same module, elsewhere."""
    match value:
        case Call(Attr(moved, "to"), (Attr(_, name),), ()):
            return moved == place and "device" in name
    return False


def _place(place: Attr) -> str:
    return f"@{place.digest}"


def _item(owner: Value, position: Value) -> Value | None:
    """The item of a display at a constant position."""
    if not isinstance(owner, Sequence) or not isinstance(position, Const) or type(position.value) is not int:
        return None
    inside = -len(owner.items) <= position.value < len(owner.items)
    return owner.items[position.value] if inside and not _has_star(owner) else None


def _has_star(sequence: Sequence) -> bool:
    return any(isinstance(item, Starred) for item in sequence.items)


def _join(test: Value, then: Environment, other: Environment, node: ast.AST) -> Environment:
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
