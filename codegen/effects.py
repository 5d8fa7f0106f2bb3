"""What a statement may change that the fused branch reads later, or earlier, than the original.

    logits = self.lm_head(h) * self.scale            self.step()        # sets self.scale
    self.step()                               ->     loss = causal_lm_loss(h, self.lm_head, ..., scale=self.scale)

Between the place where the original reads something and the place where the branch does, only what is known to be
harmless may stand: `harmless` lists it, functions and modules of the file are looked into, everything else is named.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from copy import copy

from fusegen.codegen.arguments import VocabularyCall
from fusegen.codegen.events import Events, Touch, looked_at, visible
from fusegen.codegen.findings import Analysis
from fusegen.codegen.harmless import (
    CONTEXTS,
    GETTERS,
    MODULE_METHODS,
    in_place,
    is_harmless_function,
    is_harmless_method,
    is_view,
)
from fusegen.codegen.members import Criterion, InFile, Linear, Member, ModuleList, Plain, is_config
from fusegen.codegen.operands import is_module_path
from fusegen.codegen.state import (
    acts_when_used,
    is_new,
    is_of_model,
    is_plain_number,
    is_tensor,
    made_of,
    makes_module,
    may_be_module,
    parts_of_model,
)
from fusegen.codegen.storage import CONTAINER_METHODS, is_container, roots
from fusegen.codegen.values import (
    Attr,
    Binary,
    Call,
    Const,
    Global,
    Index,
    Opaque,
    Param,
    Select,
    Self,
    Value,
    describe,
    negate,
    render,
)
from fusegen.codegen.values_read import attributes, values_read, with_base

_DEEPEST = 8

# Attributes of a module or a tensor that are read without being named.
_ALWAYS_READ = frozenset(
    "weight bias data grad requires_grad training forward config loss_function loss_type dtype device".split()  # noqa: SIM905
)

_IMPORTED = re.compile(r"\.|torch\b|transformers\b|math$|typing$|warnings$|time$|copy$")

_HOOKS = re.compile(r"def __(get|set|delete|getattr|getattribute|setattr|delattr)__\(")

_UNKNOWN = "may change what the head reads"

_UNFOLLOWED = (
    ast.Await,
    ast.Yield,
    ast.YieldFrom,
    ast.AsyncFor,
    ast.AsyncWith,
    ast.Match,
    ast.TryStar,
    ast.ClassDef,
    ast.Global,
    ast.Nonlocal,
)


class Effects:
    """The effects of statements on what the heads of some losses, and the conditions on them, read."""

    def __init__(self, analysis: Analysis, losses: list[VocabularyCall], conditions: Iterable[Value] = ()) -> None:
        self.analysis = analysis
        self.reading = analysis.reading
        self.ways = {value for loss in losses for value in (*loss.chain.trail, *loss.chain.also)}
        self.passed = {id(loss.node) for loss in losses}
        self.events = Events.of(analysis.walked)
        places = (loss.chain.head.place for loss in losses)
        self._heads = tuple(render(place) for place in places if place is not None)
        hidden = [loss.chain.head.hidden for loss in losses]
        self._known_roots: dict[int, frozenset[int]] = {}
        self._hidden_roots = frozenset[int]().union(*map(self._roots, hidden))
        self._known: dict[Value, frozenset[Value]] = {}
        self._made_of = frozenset[Value]().union(*(made_of(value, self._known) for value in hidden))
        results = self.ways.union(loss.found.loss.call for loss in losses).difference(hidden)
        self._apart: dict[Value, frozenset[Value]] = dict.fromkeys(results, frozenset())
        self._read = _ALWAYS_READ.union(
            *(attributes(value) for loss in losses for value in values_read(loss)),
            *map(attributes, conditions),
        )
        self._given = {guard for loss in losses for guard in loss.chain.guards}
        self._outer = {part for loss in losses for part in with_base(loss.chain.outer)}
        arguments = analysis.block.node.args
        self._keywords = Param(arguments.kwarg.arg) if arguments.kwarg is not None else None
        self._trusting = False

    # -- the questions ---------------------------------------------------------------------------------------

    def touching(self, statement: ast.stmt) -> Touch | None:
        """What in a statement the hidden states, the head, an operand or a condition may notice, or None."""
        return self._touch(list(visible(statement)), self.events, 0)

    def disturbing(self, part: ast.AST) -> str | None:
        """What in a statement or expression an attribute of the model may notice, or None.

        Modules of other files, and functions that do not get the model, are trusted: most of a forward is such calls.
        """
        touch = self._trusting_copy()._touch(list(visible(part)), self.events, 0)
        return touch.what if touch is not None else None

    def _trusting_copy(self) -> Effects:
        trusting = copy(self)
        trusting._trusting = True
        return trusting

    def outlasting(self, statement: ast.stmt) -> Touch | None:
        """What in a statement after the loss changes the head's weight or the hidden states: backward reads them."""
        trusting = self._trusting_copy()
        called = {id(node.func) for node in visible(statement) if isinstance(node, ast.Call)}
        for node in visible(statement):
            changed = list(self.events.changed.get(id(node), []))
            if isinstance(node, ast.Attribute) and id(node) not in called and (runs := self._load(node)):
                return Touch(runs, node.lineno)
            for call in self.events.calls.get(id(node), []):
                changed += self._changed_inside(call, 0)
                if id(call.node) not in self.passed and trusting._gets_model(call):
                    return Touch(f"hands the model to `{describe(call.func, 60)}`", getattr(node, "lineno", 0))
            saved = next((value for value in changed if self._is_saved(value)), None)
            if saved is not None:
                return Touch(f"changes `{describe(saved, 60)}`", getattr(node, "lineno", statement.lineno))
        return None

    def _gets_model(self, call: Call) -> bool:
        """Whether a function that is not known may reach the parameters: it is one of the model, or gets the model."""
        if isinstance(call.func, Attr) and (call.func.base == Self() or is_module_path(call.func)):
            members = self.reading.scope.at(self.reading.owner or "", call.func)
            if members or self.reading.called(call)[0] is None:
                return any(isinstance(each, Plain) for each in members) and self._harm(call, 0) is not None
            inner, block = self.reading.walk_inside(call), self.reading.called(call)[0]
            if inner is not None:
                return any(self._gets_model(record.call) for record in inner.calls)
            if block is None or [ast.unparse(each) for each in block.node.decorator_list] != ["staticmethod"]:
                return True
            given = (*call.args, *(value for _, value in call.keywords))
            return any(head.startswith(render(value)) for value in given for head in self._heads)
        return self._hands_over(call) is not None and self._harm(call, 0) is not None

    def _changed_inside(self, call: Call, depth: int) -> Iterator[Value]:
        """What functions of this file change in place."""
        inner = self.reading.walk_inside(call) if depth <= _DEEPEST else None
        if inner is not None:
            yield from (sink.value for sink in inner.sinks if sink.kind == "changed")
            for record in inner.calls:
                yield from self._changed_inside(record.call, depth + 1)

    def _is_saved(self, value: Value) -> bool:
        """Whether a value may be the weight of the head, which may be tied to another one, or the hidden states."""
        for part in parts_of_model(value, self.reading):
            tensor = part.base if isinstance(part, Attr) and part.name == "data" else part
            apart = self.reading.is_scalar(tensor) or (
                is_tensor(tensor, self.reading) and not render(tensor).startswith(self._heads)
            )
            if not apart:
                return True
        if self._is_result(value):
            return False
        # What the model got besides is not what it gave: only one of both sides may share by a call that is not known.
        known = self._hidden_roots.isdisjoint(part.digest for part in made_of(value, self._apart))
        return not (known and self._roots(value).isdisjoint(part.digest for part in self._made_of))

    def _is_result(self, value: Value) -> bool:
        """Whether a value is a loss, logits or a number that was made of them: no module and no view of a weight."""
        match value:
            case Select(_, then, other):
                return self._is_result(then) and self._is_result(other)
            case Binary(_, left, _):
                return is_new(value) or self._is_result(left)
            case Opaque(_, _, parts):
                return bool(parts) and all(map(self._is_result, parts))
        return value in self._apart or isinstance(value, Const)

    def lost(self, statement: ast.stmt, head: ast.Call) -> str | None:
        """What a statement calls besides the head and operations on the logits: it cannot be left out. Or None."""
        nodes = {id(node) for node in ast.walk(statement)} - {id(node) for node in ast.walk(head)}
        for record in self.analysis.walked.calls:
            call = record.call
            runs = not any(negate(test) in self._given for test in record.path)
            if runs and id(call.node) in nodes and call.stamp is not None and call not in self.ways:
                return f"`{describe(call.func, 60)}`"
        return None

    def _roots(self, value: Value) -> frozenset[int]:
        return roots(value, self._known_roots)

    # -- nodes -----------------------------------------------------------------------------------------------

    def _touch(self, nodes: list[ast.AST], events: Events, depth: int) -> Touch | None:
        contexts = {id(call) for node in nodes if isinstance(node, ast.With) for call in self._contexts(node, events)}
        only_looked_at = {id(part) for node in nodes for part in looked_at(node)}
        called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        for node in nodes:
            if id(node) in contexts or id(node) in self.passed:
                continue
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                what = None if id(node) in called or self._trusting else self._load(node)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                what = None if id(node) in only_looked_at or self._trusting else self._name(node, events)
            else:
                what = self._node(node, events, depth)
            if what is not None:
                return Touch(what, getattr(node, "lineno", 0))
        return None

    def _node(self, node: ast.AST, events: Events, depth: int) -> str | None:
        match node:
            case ast.Call():
                return self._call(node, events, depth)
            case ast.Attribute():
                return self._stored(node, events)
            case ast.Subscript(ctx=ast.Store() | ast.Del()):
                return self._changed(node, events, True)
            case ast.AugAssign(target=ast.Name()):
                return self._changed(node, events, False)
            case ast.With(items=items):
                outside = [item.context_expr for item in items if not self._contexts(node, events)]
                return f"enters `{ast.unparse(outside[0])[:60]}`" if outside else None
            case ast.Import(names=names):
                return next((f"imports {each.name}" for each in names if not _IMPORTED.match(each.name)), None)
            case ast.ImportFrom(module=module, level=level):
                known = level or _IMPORTED.match(module or "")
                return None if known else f"imports {module}"
        return f"has a `{type(node).__name__.lower()}`" if isinstance(node, _UNFOLLOWED) else None

    def _contexts(self, node: ast.With, events: Events) -> list[ast.expr]:
        """The calls that make the contexts of a `with`, if all of them only hold inside of it."""
        calls = [item.context_expr for item in node.items]
        known = all(
            isinstance(call.func, Global) and call.func.path in CONTEXTS
            for expression in calls
            for call in events.calls.get(id(expression), [Call(Const(None), ())])
        )
        return calls if known else []

    def _load(self, node: ast.Attribute) -> str | None:
        """Reading an attribute may run a function of this file."""
        runs = self._may_run(node.attr)
        return f"reads `{ast.unparse(node)[:60]}`, which may run code of this file" if runs else None

    def _may_run(self, attribute: str) -> bool:
        """Whether the file has a function of that name, or one that is asked for every attribute."""
        text = self.reading.scope.index.text
        return f"def {attribute}(" in text or _HOOKS.search(text) is not None

    def _name(self, node: ast.Name, events: Events) -> str | None:
        value = events.loads.get(id(node))
        if value == Self() or (value is not None and acts_when_used(value, self.reading)):
            return f"uses `{node.id}`, which may act on what the head reads"
        return None

    def _stored(self, node: ast.Attribute, events: Events) -> str | None:
        """Setting an attribute of the model is harmless where nothing of that name is read."""
        places = events.stores.get(id(node), [])
        hooked = self._may_run(node.attr)
        for place in places:
            if hooked or place.name.startswith("_") or place.name in self._read or not self._is_apart(place.base):
                return f"sets `{describe(place, 60)}`"
        return self._changed(node, events, False) if places else f"sets `{ast.unparse(node)[:60]}`"

    def _is_apart(self, holder: Value) -> bool:
        """Whether setting an attribute of an object does nothing else: a module of the model, or a result of one."""
        if holder == Self() or is_module_path(holder):
            return not is_config(holder)
        result = isinstance(holder, Call) and is_module_path(holder.func) and not is_of_model(holder, self.reading)
        return result or is_container(holder)

    def _changed(self, node: ast.AST, events: Events, always: bool) -> str | None:
        """What a node changes in place; `always` where it surely changes something."""
        values = events.changed.get(id(node), [])
        if always and not values:
            return "changes something that cannot be followed"
        moved = next((value for value in values if self._may_move(value)), None)
        return f"changes `{describe(moved, 60)}`" if moved is not None else None

    def _may_move(self, value: Value) -> bool:
        """Whether a change of a value in place may reach the model or the hidden states."""
        if value in self.ways:
            return False
        if _is_made_here(value) or value == self._keywords:
            return False  # What it holds stays as it is, and the hidden states were taken out of it before.
        if is_of_model(value, self.reading):
            return not is_plain_number(value, self.reading)
        return not self._made_of.isdisjoint(made_of(value, self._known))

    # -- calls -----------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call, events: Events, depth: int) -> str | None:
        calls = events.calls.get(id(node))
        if calls is None:
            return f"calls `{ast.unparse(node.func)[:60]}`, where the walk does not go"
        for call in calls:
            harm = self._harm(call, depth)
            if harm is not None:
                return f"calls `{describe(call.func, 60)}`, which {harm}"
        return self._changed(node, events, False)

    def _harm(self, call: Call, depth: int) -> str | None:
        """What a call does that may matter, or None."""
        if call in self.ways:
            followed = call not in self._outer and self.reading.walk_inside(call) is not None
            return self._inside(call, depth) if followed else None
        match call.func:
            case Global(path):
                if path.startswith(".") and path[1:] in self.reading.scope.index.functions:
                    return self._inside(call, depth)
                if path in ("getattr", "hasattr") and not self._trusting:
                    name = call.argument(1, "name")
                    return _UNKNOWN if not isinstance(name, Const) or self._may_run(str(name.value)) else None
                harmless = (is_harmless_function(call, path) and self._holds_only(path.removeprefix("."))) or (
                    self._trusting and _is_imported(path) and not self._hands_over(call)
                )
            case Attr() | Index() as place if is_module_path(place):
                return self._harm_of_module(place, call, depth)
            case Attr(base, name):
                moves = name in MODULE_METHODS and may_be_module(base, self.reading)
                unknown = name in CONTAINER_METHODS and not _is_made_here(base) and base != self._keywords
                harmless = is_harmless_method(name) and not (moves or unknown)
            case Call(Global(path)) as made:
                harmless = path.startswith("torch.nn.") and not in_place(made)
            case _:
                harmless = False
        return None if harmless else _UNKNOWN

    def _holds_only(self, class_name: str) -> bool:
        """Whether a class, if it stands in this file, does nothing when it is made."""
        blocks = self.reading.scope.index.mro(class_name)
        return not any(method.startswith("__") for block in blocks for method in block.methods)

    def _harm_of_module(self, place: Attr | Index, call: Call, depth: int) -> str | None:
        """A module changes itself at most, if it is one of its own; a method of the model may change anything."""
        owner = self.reading.owner or ""
        members = self.reading.scope.at(owner, place)
        if members:
            return next((harm for each in members if (harm := self._harm_of_member(each, call, depth))), None)
        if isinstance(place, Attr):
            if self.reading.called(call)[0] is not None:
                return self._inside(call, depth)
            known = (
                (is_config(place.base) and place.name in ("get_text_config", "to_dict", "get"))
                or (is_tensor(place.base, self.reading) and is_harmless_method(place.name))
                or (place.base != Self() and not self.reading.scope.at(owner, place.base) and is_view(place.name))
                or (place.name in GETTERS and not self.reading.scope.is_shadowed(owner, place.name))
            )
            if known:
                return None
        return _UNKNOWN

    def _harm_of_member(self, member: Member, call: Call, depth: int) -> str | None:
        match member:
            case InFile() if self.reading.walk_inside(call) is not None or not self._trusting:
                return self._inside(call, depth)
            case ModuleList(item) if isinstance(call.func, Index):
                return self._harm_of_member(item, call, depth)
            case Plain(value) if not makes_module(value):
                return _UNKNOWN
            case Linear() | Criterion() | Plain() | InFile():
                handed = self._hands_over(call)
                return f"gets `{describe(handed, 60)}`" if handed is not None else None
        return _UNKNOWN

    def _hands_over(self, call: Call) -> Value | None:
        """The model, or what belongs to it, among the arguments of a call."""
        return next(
            (value for value in (*call.args, *(item for _, item in call.keywords)) if self._is_module(value)), None
        )

    def _is_module(self, value: Value) -> bool:
        """Whether an argument hands over the model, a module of it or a method, and no tensor or number."""
        if value == Self():
            return True
        if not is_module_path(value) or is_config(getattr(value, "base", value)) or is_config(value):
            return False
        return not (is_tensor(value, self.reading) or self.reading.is_scalar(value))

    def _inside(self, call: Call, depth: int) -> str | None:
        """What a function of this file does that may matter, or None."""
        inner = self.reading.walk_inside(call)
        match call.func:
            case Global(path) if path.endswith(".apply_chunking_to_forward") and len(call.args) >= 4:
                block, _ = self.reading.called(Call(call.args[0], call.args[3:]))
            case _:
                block, _ = self.reading.called(call)
        if inner is None or block is None or depth > _DEEPEST:
            return _UNKNOWN
        nodes = [node for statement in block.node.body for node in visible(statement)]
        touch = self._touch(nodes, Events.of(inner), depth + 1)
        return f"{touch.what} (line {touch.line})" if touch is not None else None


def _is_imported(path: str) -> bool:
    """Whether a function comes from another file: `torch.x`, `..modeling_utils.x`, not `.x` and not `print`."""
    return "." in path.lstrip(".") and not re.match(r"\.\w", path)


def _is_made_here(value: Value) -> bool:
    """Whether a value is a list, a dict or an output that the function made, in a loop as well."""
    if isinstance(value, Opaque) and value.why in ("bound in a loop, with or try", "changed in place"):
        return any(map(_is_made_here, value.parts[:1]))
    return is_container(value)
