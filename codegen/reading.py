"""What may be asked while one function is read: is this a head, a number, a bias; what is inside this call.

`inside(call)` looks through a call of something that stands in the same file (`self.cls(h)`, `soft_cap(x, c)`,
`self._compute_loss(...)`): it walks that function with the call's arguments bound to its parameters.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from fusegen.codegen.bindings import Trace
from fusegen.codegen.index import FunctionBlock
from fusegen.codegen.members import InFile, Linear, Plain, Scope, Tensor, is_config
from fusegen.codegen.trace import trace
from fusegen.codegen.values import (
    Attr,
    Binary,
    Call,
    Const,
    Global,
    Index,
    Opaque,
    Self,
    Sequence,
    Starred,
    Value,
    render,
)

_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class HeadRead:
    """A product with a weight matrix: `hidden @ weight.T (+ bias)`.

    `place` is the module that has the weight; None where the matrix is put together from several.
    """

    value: Value
    linear: str
    hidden: Value
    rows: Value | None
    bias: str
    place: Value | None


class Reading:
    """One function of class `owner` (None: of the module) and the file around it."""

    def __init__(self, scope: Scope, owner: str | None) -> None:
        self.scope = scope
        self.owner = owner
        self.inlined: dict[Call, Trace | None] = {}
        self._heads: dict[Value, HeadRead | None] = {}
        self._has_head: dict[Value, bool] = {}
        self._depth = 0

    # -- operands --------------------------------------------------------------------------------------------

    def is_scalar(self, value: Value) -> bool:
        return self.scope.is_scalar(self.owner or "", value)

    def is_vocabulary_bias(self, value: Value) -> bool:
        return self.scope.is_vocabulary_bias(self.owner or "", value)

    def expand(self, value: Value) -> str:
        return self.scope.expand(self.owner or "", value)

    def has_head(self, value: Value) -> bool:
        """Whether a head's product flows into a value by operations on tensors (what a module makes is its own)."""
        known = self._has_head.get(value)
        if known is None:
            self._has_head[value] = False
            known = self.head(value) is not None or any(self.has_head(child) for child in _flows_from(value))
            self._has_head[value] = known
        return known

    def is_full_width(self, logits: Value, width: Value) -> bool:
        """Whether a last dimension is surely that of the head's product somewhere below `logits`."""
        head, seen = self.head(logits), logits
        while head is None:
            match seen:
                case Binary("+", _, bias) if (size := self.scope.bias_size(self.owner or "", bias)) is not None:
                    return self.expand(size) == self.expand(width)
                case Binary(_, left, _):
                    seen = left
                case Call(Attr(base, _)):
                    seen = base
                case _:
                    return False
            head = self.head(seen)
        return head.rows is not None and self.expand(head.rows) == self.expand(width)

    # -- heads -----------------------------------------------------------------------------------------------

    def head(self, value: Value) -> HeadRead | None:
        """`value` as a product with a weight matrix, None if it is not shown to be one."""
        if not isinstance(value, Call | Binary):
            return None
        if value not in self._heads:
            self._heads[value] = self._read_head(value)
        return self._heads[value]

    def _read_head(self, value: Value) -> HeadRead | None:
        match value:
            case Call() if _is_spread(value):
                return None
            case Call(Attr() | Index() as place, (hidden,), ()) if (linear := self._linear_at(place)) is not None:
                return HeadRead(value, render(place), hidden, linear.rows, linear.bias, place)
            case Call(Global("torch.nn.functional.linear"), (hidden, Attr(owner, "weight") as weight, *rest), keywords):
                bias = rest[0] if rest else dict(keywords).get("bias")
                if self._is_matrix(weight):
                    return HeadRead(value, render(owner), hidden, self._rows_of(owner), _bias_of(owner, bias), owner)
            case (
                Call(Global("torch.matmul"), (hidden, matrix), ())
                | Call(Attr(hidden, "matmul"), (matrix,), ())
                | Binary("@", hidden, matrix)
            ):
                match transposed(matrix):
                    case Attr(owner, "weight"):
                        return HeadRead(value, render(owner), hidden, self._rows_of(owner), "no", owner)
                first = self._assembled(matrix)
                if first is not None:
                    return HeadRead(value, render(matrix), hidden, self._rows_of(first), "no", None)
        return None

    def _linear_at(self, place: Value) -> Linear | None:
        """The linear that stands at a path (or may: the guard at run time looks at what is there)."""
        members = self.scope.at(self.owner, place) if self.owner is not None else ()
        return next((member for member in members if isinstance(member, Linear)), None)

    def holds_stack(self, value: Value) -> bool:
        """Whether a parameter of three dimensions, one matrix for each position, is in what a value is made of."""
        match value:
            case Attr():
                members = self.scope.at(self.owner or "", value)
                if any(
                    isinstance(member, Tensor) and member.shape is not None and len(member.shape) == 3
                    for member in members
                ):
                    return True
        return any(self.holds_stack(child) for child in value.children())

    def _assembled(self, matrix: Value) -> Value | None:
        """The linear that gives a matrix its columns, where the matrix is put together from weights of linears."""
        match matrix:
            case Call(Global("torch.cat" | "torch.concat"), (Sequence(_, (first, *rest)),)) if matrix.keyword(
                "dim"
            ) == Const(0):
                weights = [transposed(part) or part for part in (first, *rest)]
                owners = [w.base for w in weights if isinstance(w, Attr) and w.name == "weight" and self._is_matrix(w)]
                if transposed(first) is not None and len(owners) == len(weights):
                    return owners[0]
        return None

    def _is_matrix(self, weight: Attr) -> bool:
        """Whether `x.weight` belongs to a linear or an embedding (of this module or of one of its own)."""
        if self.owner is None:
            return False
        if weight.base == Self():
            return any("nn.Linear" in block.bases for block in self.scope.index.mro(self.owner))
        return any(self._holds_matrix(member) for member in self.scope.at(self.owner, weight.base))

    def _holds_matrix(self, member: object) -> bool:
        match member:
            case Linear():
                return True
            case Plain(Call(Global(path))):
                return path == "torch.nn.Embedding" or path.endswith("Embedding")
            case InFile(name):
                bases = {base for block in self.scope.index.mro(name) for base in block.bases}
                return bool(bases & {"nn.Embedding", "nn.Linear", "torch.nn.Embedding", "torch.nn.Linear"})
        return False

    def _rows_of(self, owner: Value) -> Value | None:
        for member in self.scope.at(self.owner or "", owner):
            match member:
                case Linear(rows):
                    return rows
                case InFile(_, made) | Plain(Call() as made):
                    return made.argument(0, "num_embeddings")
        return None

    # -- looking inside --------------------------------------------------------------------------------------

    def inside(self, call: Call) -> Value | None:
        """What a call returns, if it is of something in this file that can be followed; None otherwise."""
        if self.owner is not None and len(call.args) == 1 and isinstance(call.func, Attr):
            match self.scope.at(self.owner, call.func):
                case (Plain(Call(Global("torch.nn.Identity"))),):
                    return call.args[0]
        walked = self.walk_inside(call)
        return walked.result if walked is not None else None

    def walk_inside(self, call: Call) -> Trace | None:
        """The walk of the called function with this call's arguments; None if it does not stand in this file."""
        if call not in self.inlined:
            self.inlined[call] = None
            self.inlined[call] = self._walk_inside(call) if self._depth < _DEEPEST else None
        return self.inlined[call]

    def _walk_inside(self, call: Call) -> Trace | None:
        match call.func:
            case Global(path) if path.endswith(".apply_chunking_to_forward") and len(call.args) >= 4:
                # Runs the function over pieces of one dimension and puts the results together again.
                return self.walk_inside(Call(call.args[0], call.args[3:], (), call.stamp, node=call.node))
        block, receiver = self.called(call)
        return self._walk(block, receiver, call) if block is not None else None

    def called(self, call: Call) -> tuple[FunctionBlock | None, Value | None]:
        """The function of this file that a call runs, and what it is bound to; (None, None) if there is none."""
        match call.func:
            case Global(path) if path.startswith("."):
                return self.scope.index.functions.get(path[1:]), None
            case Attr(base, name) if self.owner is not None:
                modules = self.scope.at(self.owner, call.func)
                if len(modules) == 1 and isinstance(modules[0], InFile):
                    called = modules[0].class_name
                    own_call = self.scope.is_shadowed(called, "__call__")
                    return None if own_call else self.scope.index.method(called, "forward"), call.func
                holders = self.scope.at(self.owner, base)
                if not modules and len(holders) == 1 and isinstance(holders[0], InFile):
                    return self.scope.index.method(holders[0].class_name, name), base
        return None, None

    def _walk(self, block: FunctionBlock, receiver: Value | None, call: Call) -> Trace | None:
        bindings = self._bind(block.node, receiver, call)
        if bindings is None:
            return None
        self._depth += 1
        walked = trace(block.node, self.scope.resolve, bindings, self.scope.stamps)
        self._depth -= 1
        return walked

    def _bind(self, function: ast.FunctionDef, receiver: Value | None, call: Call) -> dict[str, Value] | None:
        """Parameters to values; None if the call does not show which argument goes where."""
        arguments = function.args
        names = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]]
        if not all(_is_harmless(decorator) for decorator in function.decorator_list) or any(
            isinstance(argument, Starred) for argument in call.args
        ):
            return None
        bound: dict[str, Value] = {}
        if receiver is not None:
            if not names:
                return None
            bound[names.pop(0)] = receiver
        if len(call.args) > len(names):
            return None
        bound |= dict(zip(names, call.args, strict=False))
        spread = any(keyword is None for keyword, _ in call.keywords)
        bound |= {keyword: value for keyword, value in call.keywords if keyword is not None}
        defaults = dict(zip(reversed(names), reversed(arguments.defaults), strict=False))
        defaults |= {
            a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None
        }
        for name in [*names, *(argument.arg for argument in arguments.kwonlyargs)]:
            default = defaults.get(name)
            if name not in bound:
                known = isinstance(default, ast.Constant) and not spread
                bound[name] = (
                    Const(default.value)
                    if known and isinstance(default, ast.Constant)
                    else Opaque("argument not shown", next(self.scope.stamps))
                )
        for extra in (arguments.vararg, arguments.kwarg):
            if extra is not None:
                bound[extra.arg] = Opaque("further arguments", next(self.scope.stamps))
        return bound


_HARMLESS_DECORATORS = re.compile(
    r"torch\.jit\.\w+|torch\.compile|torch\.compiler\.\w+|can_return_tuple|auto_docstring|deprecate_kwarg"
    r"|(add|replace)_\w*docstrings\w*|override|typing\.override"
)


def _is_harmless(decorator: ast.expr) -> bool:
    """Whether a decorator leaves what a function computes, and its gradient, as they are."""
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return _HARMLESS_DECORATORS.fullmatch(ast.unparse(function)) is not None


def _is_spread(call: Call) -> bool:
    """Whether a `*` or `**` hides which argument is which."""
    return any(isinstance(argument, Starred) for argument in call.args) or None in dict(call.keywords)


def _flows_from(value: Value) -> Iterator[Value]:
    """The parts of a value that its entries come from: not the arguments of a module of the model."""
    match value:
        case Call(Attr(base, _) as place, args, _):
            root: Value = place
            while isinstance(root, Attr | Index):
                root = root.base
            if not isinstance(root, Self):
                yield base
                yield from args
        case Attr(base, _):
            if not isinstance(base, Call):
                yield base
        case _:
            yield from value.children()


def transposed(value: Value) -> Value | None:
    """`w` of `w.t()`, `w.T`, `w.transpose(0, 1)`."""
    match value:
        case Call(Attr(weight, "t"), (), ()) | Attr(weight, "T" | "mT"):
            return weight
        case Call(Attr(weight, "transpose"), (Const(int(first)), Const(int(second))), ()) if {
            first % 2,
            second % 2,
        } == {0, 1}:
            return weight
    return None


def _bias_of(owner: Value, bias: Value | None) -> str:
    if bias is None or bias == Const(None):
        return "no"
    return "config" if bias == Attr(owner, "bias") else "yes"


def is_static(value: Value) -> bool:
    """Whether a condition can be checked before anything is computed: arguments given, attributes, configuration."""
    match value:
        case Opaque() | Index():
            return False
        case Call(Global("isinstance" | "hasattr" | "getattr" | "len")) | Const() | Global() | Self():
            return True
        case Call():
            return is_config(value)
    return all(is_static(child) for child in value.children())
