"""Evaluate expressions and bind targets: the rules for what a value is made of.

    self.lm_head(hidden) / self.cap   ->   Binary("/", Call(Attr(Self(), "lm_head"), (...)), Attr(Self(), "cap"))

What has no rule is `Opaque`; two calls that may differ do differ.
"""

from __future__ import annotations

import ast

from fusegen.codegen.bindings import Bindings, CallRecord, join
from fusegen.codegen.storage import SHARING_ATTRIBUTES, VIEWS, changed_by, is_container, is_made_of_torch, is_tuple
from fusegen.codegen.syntax import COMPARISONS, OPERATORS, UNARY
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
    Select,
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


class Expressions(Bindings):
    """Walks expressions in the order of evaluation, and what assigns to targets."""

    def evaluate(self, node: ast.expr) -> Value:
        match node:
            case ast.Name(id=name):
                value = self.trace.loads[id(node)] = self.env[name] if name in self.env else self.resolve(name)
                return value
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
                return item_at(owner, position) or Index(owner, position, node=node)
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
        self.env = join(condition, then_env, self.env, node)
        return then if then == other else Select(condition, then, other, node=node)

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
            self.env = join(condition, self.env, before, node) if self.env != before else before
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

    def assign(self, target: ast.expr, value: Value) -> None:
        match target:
            case ast.Name(id=name):
                self.bind(name, value)
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                starred = any(isinstance(element, ast.Starred) for element in elements)
                for position, element in enumerate(elements):
                    if isinstance(element, ast.Starred):
                        self.assign(element.value, self.opaque("starred target", element, value))
                    elif starred:
                        self.assign(element, self.opaque("starred target", element, value))
                    else:
                        at = Const(position)
                        self.assign(element, item_at(value, at) or Index(value, at, node=element))
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
                if not is_tuple(old):
                    self.sink("changed", old, node)
                for name in [name for name, held in self.env.items() if held is old]:
                    self.bind(name, other)
            else:
                self.mutate(old, other)
            self.bind(target.id, new)
        elif isinstance(target, ast.Subscript):
            # `held[0] *= 2` changes the tensor that is held, and not only what holds it.
            self.sink("in-place", value, node)
            owner, position = self.evaluate(target.value), self.evaluate(target.slice)
            held = item_at(owner, position) or Index(owner, position, node=target)
            for changed in (held, owner):
                self.mutate(changed, self.opaque("changed in place", target, changed))
        else:
            self.sink("in-place", value, node)
            self.clobber_target(target)

    def delete(self, target: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.env.pop(target.id, None)
            return
        if isinstance(target, ast.Subscript):
            self.sink("test", self.evaluate(target.slice), target)
        self.clobber_target(target)

    def clobber_target(self, target: ast.expr) -> None:
        """Something behind an attribute or subscript changed: what may share it is unknown from here on."""
        base = (
            self.evaluate(target.value) if isinstance(target, ast.Attribute | ast.Subscript) else self.evaluate(target)
        )
        if isinstance(target, ast.Attribute):
            place = Attr(base, target.attr, node=target)
            held = self.opaque("changed in place", target, place)
            self.trace.stores.append((place, held, tuple(self.path)))
            self.mutate(place, held)
            self.place(place, held)
        else:
            self.mutate(base, self.opaque("changed in place", target, base))


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


def item_at(owner: Value, position: Value) -> Value | None:
    """The item of a tuple or list display at a constant position; None where a starred one may move what follows."""
    if not isinstance(owner, Sequence) or owner.kind == "set" or _has_star(owner):
        return None
    if not isinstance(position, Const) or type(position.value) is not int:
        return None
    return owner.items[position.value] if -len(owner.items) <= position.value < len(owner.items) else None


def _has_star(sequence: Sequence) -> bool:
    return any(isinstance(item, Starred) for item in sequence.items)
