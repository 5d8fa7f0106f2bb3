"""Walk a function's statements and say what every name, call and result is made of.

    hidden = self.model(x)[0]
    logits = self.lm_head(hidden)          calls:   self.lm_head(self.model(x)[0])
    if self.cap is not None:               returns: Out(logits=Select(self.cap is not None, ..., ...))
        logits = logits / self.cap
    return Out(logits=logits)

This is the only file that knows Python's statements; `expressions` knows what stands in them. It must be sound, not
complete: names that a loop, `with` or `try` binds are `Opaque` after it, and so is what has no rule.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable

from fusegen.codegen.bindings import Environment, Trace, join
from fusegen.codegen.expressions import Expressions
from fusegen.codegen.syntax import OPERATORS, bound_in
from fusegen.codegen.values import Attr, Const, Global, Logic, Opaque, Param, Select, Self, Value, negate


def trace(
    function: ast.FunctionDef,
    resolve: Callable[[str], Value],
    bindings: Environment | None = None,
    stamps: Iterable[int] | None = None,
    *,
    keeps_names: bool = False,
) -> Trace:
    """Walk `function`.

    `resolve` gives the value of a name that the function does not bind. `bindings` are values of its
    parameters (default: `self` is `Self()`, every other one a `Param`). `stamps` numbers impure calls: share
    it between walks whose values meet. `keeps_names`: remember what names hold before each statement.
    """
    walker = _Walker(resolve, stamps)
    walker.keeps_names = keeps_names
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


class _Walker(Expressions):
    """Walks statements in order, both ways of every condition."""

    keeps_names = False

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
        """Walk one statement; False if control never falls off its end."""
        if self.keeps_names:
            self.trace.before[id(node)] = dict(self.env)
        match node:
            case ast.If():
                return self.branch(node)
            case ast.For() | ast.AsyncFor() | ast.While() | ast.With() | ast.AsyncWith() | ast.Try():
                return self.compound(node)
            case ast.Return(value=value):
                result = self.evaluate(value) if value is not None else Const(None)
                self.sink("return", result, node)
                self.returns_enclosed = self.returns_enclosed or bool(self.inside)
                return False
            case ast.Raise() | ast.Break() | ast.Continue():
                return False
            case ast.Expr(value=value):
                if not isinstance(value, ast.Constant):
                    self.evaluate(value)
            case ast.Assert(test=test):
                self.sink("test", self.evaluate(test), node)
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                self.captured.update(names)
            case ast.Pass():
                pass
            case _:
                if not self.binding(node):
                    self.returns_enclosed |= any(isinstance(child, ast.Return) for child in ast.walk(node))
                    self.sink("opaque statement", self.opaque(type(node).__name__, node, *self.read_names(node)), node)
                    self.forget([node])
        return True

    def binding(self, node: ast.stmt) -> bool:
        """Walk a statement that binds names or unbinds them; False if it is none."""
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
            case ast.Delete(targets=targets):
                for target in targets:
                    self.delete(target)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self.capture(node)
                self.env[node.name] = Opaque("nested definition", self.stamp(), node=node)
            case ast.Import(names=names):
                for alias in names:
                    path = alias.name if alias.asname else alias.name.split(".")[0]
                    self.env[alias.asname or path] = Global(path)
            case ast.ImportFrom(module=module, names=names, level=level):
                for alias in names:
                    self.env[alias.asname or alias.name] = Global(f"{'.' * level}{module or ''}.{alias.name}")
            case _:
                return False
        return True

    def compound(self, node: ast.stmt) -> bool:
        """Walk a loop, `with` or `try`; False if control never falls off its end."""
        match node:
            case (
                ast.For(target=target, iter=iterator, body=body, orelse=orelse)
                | ast.AsyncFor(target=target, iter=iterator, body=body, orelse=orelse)
            ):
                return self.enclosed("for", body, [target], self.evaluate(iterator), orelse)
            case ast.While(test=test, body=body, orelse=orelse):
                self.forget([*body, ast.Expr(test)])
                self.sink("test", self.evaluate(test), node)
                return self.enclosed("while", body, [], None, orelse)
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
        raise TypeError(f"{type(node).__name__} is no compound statement")

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
            self.env = join(test, then_env, else_env, node)
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
