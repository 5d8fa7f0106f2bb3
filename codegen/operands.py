"""Values as Python that means the same at some point of a function: operands of a fused call, and its conditions.

Attr(Attr(Self(), "config"), "final_logit_softcapping")  ->  "self.config.final_logit_softcapping"

A value was read somewhere; its text is evaluated somewhere else. `Point` is the one place that decides whether they
are the same: every name must hold there what was read, and no attribute may have been stored in between.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable

from fusegen.codegen.findings import Analysis
from fusegen.codegen.statements import function_names
from fusegen.codegen.stored import find_store
from fusegen.codegen.values import (
    Attr,
    Binary,
    Call,
    Const,
    Global,
    Index,
    Logic,
    Opaque,
    Param,
    Select,
    Self,
    Sequence,
    Unary,
    Value,
    describe,
)

Disturbing = Callable[[ast.AST], str | None]
"""Says what a statement, or an expression, does that what is read from objects may notice; None if nothing."""

_PURE_METHODS = {"get_text_config": 0, "get_decoder": 0, "size": 1, "dim": 0}
_PURE_FUNCTIONS = frozenset(("getattr", "hasattr", "isinstance", "len", "type"))


class Unwritable(Exception):
    """Something that a fused branch needs has no faithful text: turned into a refusal by who asked for it."""

    def __init__(self, reason: str, code: str = "FG604") -> None:
        super().__init__(reason)
        self.code = code


def is_module_path(place: Value) -> bool:
    """Whether a value is a place below `self`: `self.lm_head`, `self.cls.predictions`, `self.lm_head[step]`."""
    while isinstance(place, Attr | Index):
        place = place.base
        if isinstance(place, Self):
            return True
    return False


class Point:
    """The point before a statement of the function, as far as values are written there.

    `rows` maps the head's product to what the fused branch calls, whose `out_features` its width is.
    """

    def __init__(
        self, statement: ast.stmt, analysis: Analysis, disturbing: Disturbing, rows: tuple[Value, str] | None = None
    ) -> None:
        self.statement = statement
        self.analysis = analysis
        self.disturbing = disturbing
        self.rows = rows
        self.scope = analysis.reading.scope
        self.names = analysis.walked.before.get(id(statement), {})
        self._bound = function_names(analysis.block.node)
        self._changed: dict[tuple[Value, int], str | None] = {}

    def text(self, value: Value) -> str:
        """A value as an expression. Raises `Unwritable` with what stands against it."""
        return ast.unparse(self.expression(value))

    def expression(self, value: Value) -> ast.expr:
        """A value in the terms of arguments and attributes, or else the name that holds it."""
        try:
            return self._composed(value)
        except Unwritable:
            holding = (name for name, held in self.names.items() if name.isidentifier() and _is_same_read(held, value))
            name = next(holding, None)
            if name is None:
                raise
            return ast.Name(name)

    def can_write(self, value: Value) -> bool:
        """Whether a value has a text here."""
        try:
            self.expression(value)
        except Unwritable:
            return False
        return True

    # -- the parts of a value --------------------------------------------------------------------------------

    def _composed(self, value: Value) -> ast.expr:
        match value:
            case Const(constant):
                return ast.Constant(constant)
            case Self():
                return self._name("self", value)
            case Param(name):
                return self._name(name, value)
            case Global(path):
                return self._global(path)
            case Attr(base, name):
                self._check_attribute(value)
                return ast.Attribute(self.expression(base), name)
            case Index() | Call():
                return self._width(value) or (self._item(value) if isinstance(value, Index) else self._call(value))
        return self._operation(value)

    def _operation(self, value: Value) -> ast.expr:
        match value:
            case Binary(op, left, right):
                node = ast.parse(f"a {op} b", mode="eval").body
                sides = self.expression(left), self.expression(right)
                if isinstance(node, ast.Compare):
                    return ast.Compare(sides[0], node.ops, [sides[1]])
                if isinstance(node, ast.BinOp):
                    return ast.BinOp(sides[0], node.op, sides[1])
            case Unary(op, operand):
                unary = ast.parse(f"{op} a", mode="eval").body
                if isinstance(unary, ast.UnaryOp):
                    return ast.UnaryOp(unary.op, self.expression(operand))
            case Logic(op, items):
                return ast.BoolOp(ast.And() if op == "and" else ast.Or(), [self.expression(item) for item in items])
            case Select(test, then, other):
                return ast.IfExp(self.expression(test), self.expression(then), self.expression(other))
            case Sequence("tuple" | "list" as kind, items):
                made = ast.Tuple if kind == "tuple" else ast.List
                return made([self.expression(item) for item in items], ast.Load())
        raise Unwritable(f"`{describe(value, 80)}` cannot be written down")

    def _width(self, value: Value) -> ast.expr | None:
        """`logits.shape[-1]` and `logits.size(-1)` as the head's rows."""
        match value:
            case Index(Attr(logits, "shape"), Const(-1)) | Call(Attr(logits, "size"), (Const(-1),), ()):
                if self.rows is not None and logits == self.rows[0] and self.rows[1].startswith("self"):
                    return ast.Attribute(ast.parse(self.rows[1], mode="eval").body, "out_features")
        return None

    def _item(self, value: Index) -> ast.expr:
        match value:
            case Index(Attr(_, "shape"), Const(int())) | Index(Attr(), Const()):
                return ast.Subscript(self.expression(value.base), self.expression(value.index))
        raise Unwritable(f"`{describe(value, 80)}` cannot be written down")

    def _call(self, value: Call) -> ast.expr:
        match value:
            case Call(Attr(base, name), args, ()) if len(args) <= _PURE_METHODS.get(name, -1):
                return ast.Call(ast.Attribute(self.expression(base), name), [self.expression(arg) for arg in args], [])
            case Call(Global("getattr" | "hasattr"), (base, Const(str(name)), *_), ()):
                self._check_attribute(Attr(base, name, node=value.node))
            case Call(Global(path), _, ()) if path in _PURE_FUNCTIONS - {"getattr", "hasattr"}:
                pass
            case _:
                raise Unwritable(f"`{describe(value, 80)}` cannot be written down")
        return ast.Call(self.expression(value.func), [self.expression(arg) for arg in value.args], [])

    # -- is it still what it was -----------------------------------------------------------------------------

    def _name(self, name: str, value: Value) -> ast.expr:
        if self.names.get(name) != value:
            raise Unwritable(f"`{name}` is bound again")
        return ast.Name(name)

    def _global(self, path: str) -> ast.expr:
        """A name from outside of the function as the file spells it."""
        for name, rest in self._spellings(path):
            if name not in self._bound:
                why = self._why_stored(frozenset(rest), path)
                if why is not None:
                    raise Unwritable(why)
                return ast.parse(".".join((name, *rest)), mode="eval").body
        raise Unwritable(f"`{path.lstrip('.')}` has no name in the function")

    def _spellings(self, path: str) -> list[tuple[str, list[str]]]:
        """A name of the file and the attributes behind it: `nn.Linear` as ("nn", ["Linear"]), the shortest first."""
        if path.startswith("."):
            own, *rest = path[1:].split(".")
            return [(own, rest)] if own and self.scope.resolve(own) == Global(f".{own}") else []
        if hasattr(builtins, path):
            return [(path, [])] if self.scope.resolve(path) == Global(path) else []
        found = [("torch", path.split(".")[1:])] if path.startswith("torch.") else []
        for name in self.scope.index.imports:
            match self.scope.resolve(name):
                case Global(meant) if path == meant or path.startswith(f"{meant}."):
                    found.append((name, path[len(meant) :].split(".")[1:]))
        return sorted(found, key=lambda each: (len(each[1]), each[0]))

    def _check_attribute(self, value: Attr) -> None:
        read = value, id(value.node)
        if read not in self._changed:
            self._changed[read] = self._why_changed(value)
        why = self._changed[read]
        if why is not None:
            raise Unwritable(why)

    def _why_stored(self, names: frozenset[str], what: str) -> str | None:
        stored = find_store(names, self.analysis.block, self.scope.index) if names else None
        return f"`{what}` is stored in the forward: `{ast.unparse(stored)[:60]}`" if stored is not None else None

    def _why_changed(self, value: Attr) -> str | None:
        """Why an attribute may not be here what it was where it was read, None if it is the same."""
        spelled = describe(value, 60)
        owner = self.analysis.reading.owner or ""
        if value.base == Self() and any(value.name in block.methods for block in self.scope.index.mro(owner)):
            return f"`{spelled}` is computed each time that it is read"
        stored = self._why_stored(frozenset((value.name,)), spelled)
        if stored is not None:
            return stored
        if any(sink.kind == "changed" and sink.value in (value, value.base) for sink in self.analysis.walked.sinks):
            return f"`{spelled}` is changed in place"
        for part in self._between(value.node):
            what = self.disturbing(part) or self._hands_over(part, value)
            if what is not None:
                return f"`{spelled}` may be another by then (line {getattr(part, 'lineno', 0)} {what})"
        return None

    def _between(self, read: ast.AST | None) -> list[ast.AST]:
        """What runs between the place where something was read and this point, in either order."""
        if read is None:
            return []
        function = self.analysis.block.node
        here, places = _start(self.statement), self._places_of(read)
        first, last = min([here, *map(_start, places)]), max([here, *map(_end, places)])
        parts = [part for node in ast.walk(function) for part in _parts_of(node) if part is not self.statement]
        # The statement at this point runs before what is read after it, and after what was read before it.
        parts += [self.statement] if last > here else []
        return [part for part in parts if _start(part) <= last and _end(part) >= first]

    def _places_of(self, read: ast.AST) -> list[ast.AST]:
        """The parts of the function in which something is read: loops around it, or the calls that lead to it."""
        function = self.analysis.block.node
        if any(child is read for child in ast.walk(function)):
            loops = [node for node in ast.walk(function) if isinstance(node, ast.For | ast.AsyncFor | ast.While)]
            return [read, *(loop for loop in loops if any(child is read for child in ast.walk(loop)))]
        inlined = self.analysis.reading.inlined
        calls = [record.call for record in self.analysis.walked.calls if inlined.get(record.call) is not None]
        return [call.node for call in calls if call.node is not None] or [function]

    def _hands_over(self, part: ast.AST, value: Attr) -> str | None:
        """Whether a function that is not known gets the object that an attribute belongs to, or one around it."""
        holders: set[Value] = set()
        base: Value = value.base
        while isinstance(base, Attr | Index):
            holders.add(base)
            base = base.base
        holders.add(base)
        nodes = {id(node) for node in ast.walk(part)}
        for record in self.analysis.walked.calls:
            call = record.call
            if id(call.node) not in nodes or call.stamp is None or not isinstance(call.func, Global):
                continue
            given = {*call.args, *(item for _, item in call.keywords)}
            if holders & given and call.func.path not in _PURE_FUNCTIONS and not call.func.path.startswith("torch."):
                return f"hands it to `{describe(call.func, 60)}`"
        return None


def _start(node: ast.AST) -> tuple[int, int]:
    return node.lineno, node.col_offset  # type: ignore[attr-defined]


def _end(node: ast.AST) -> tuple[int, int]:
    return node.end_lineno, node.end_col_offset  # type: ignore[attr-defined]


def _parts_of(node: ast.AST) -> list[ast.AST]:
    """A statement that holds no others, or what one that does evaluates itself."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    if isinstance(node, ast.withitem):
        return [node.context_expr]
    if isinstance(node, ast.stmt):
        if not hasattr(node, "body") and not hasattr(node, "cases"):
            return [node]
        inner = (getattr(node, name, None) for name in ("test", "iter", "subject"))
        return [each for each in inner if each is not None]
    return []


def _is_same_read(held: Value, value: Value) -> bool:
    """Whether two values are the same object read once, and not only built alike."""
    if held is value:
        return True
    if held != value or isinstance(held, Attr | Index | Opaque):
        return False
    if isinstance(held, Call):
        return held.stamp is not None
    pairs = zip(held.children(), value.children(), strict=True)
    return all(_is_same_read(one, other) for one, other in pairs)
