"""What a fused branch calls in place of a head: its last linear, and before that what the head computes first.

    logits = self.cls(h)    ->    head_input = self.cls.predictions.transform(h)
                                  ... self.cls.predictions.decoder, through self.cls and self.cls.predictions

Modules that the fused branch passes over (`through`) must be of the class that was read, without hooks: the
guard at run time asks for it. A head that does anything besides is not taken apart.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from fusegen.codegen.bindings import Trace
from fusegen.codegen.chain import Chain
from fusegen.codegen.findings import Analysis, Found
from fusegen.codegen.losses import Loss
from fusegen.codegen.members import Criterion, InFile, Plain
from fusegen.codegen.operands import Unwritable, is_module_path
from fusegen.codegen.reading import Reading, transposed
from fusegen.codegen.statements import function_names, mentioned_names
from fusegen.codegen.values import (
    Attr,
    Binary,
    Call,
    Const,
    Global,
    Index,
    Self,
    Sequence,
    Starred,
    Value,
    negate,
    render,
)

FRESH = "head_input"
PROJECTION = "Projection"


@dataclass(frozen=True, slots=True)
class HeadCall:
    """How a fused branch gets at a head.

    `node` is the call that the function makes; `projection` the last product as the fused call takes it (a linear,
    or a weight); `guarded` what the guard looks at, an expression or the path of an inner module as a string
    literal; `hidden` what goes into the product, after the statements `before`; `others` the
    further items of the tuple that the call gives, by position; `through` the modules that are passed over, path
    and class; `guards` conditions under which nothing else is lost.
    """

    node: ast.Call
    projection: str
    guarded: str
    hidden: str
    before: tuple[str, ...] = ()
    others: tuple[tuple[int, str], ...] = ()
    through: tuple[tuple[str, str], ...] = ()
    guards: tuple[Value, ...] = ()


def head_call(found: Found, analysis: Analysis) -> HeadCall | str:
    """The head of a loss as the fused branch calls it, or a sentence on why it cannot."""
    assert isinstance(found.chain, Chain)
    try:
        return _head_call(found.chain, analysis)
    except Unwritable as reason:
        return str(reason)


def _head_call(chain: Chain, analysis: Analysis) -> HeadCall:
    reading, head = analysis.reading, chain.head.value
    through = _through(chain, reading)
    outer = chain.outer.base if isinstance(chain.outer, Index) else chain.outer
    if outer is None:
        if not isinstance(head, Call) or not is_module_path(head.func) or not isinstance(head.node, ast.Call):
            raise Unwritable("the logits are a product that the function itself makes with a weight")
        linear = render(head.func) if isinstance(head.func, Attr) else ast.unparse(head.node.func)
        return HeadCall(head.node, linear, linear, ast.unparse(head.node.args[0]), through=through)
    assert isinstance(outer, Call)
    if not isinstance(outer.node, ast.Call):
        raise Unwritable("the call of the head cannot be found in the function")
    others = _others(chain, reading)
    _check_nothing_else(chain, others, reading)
    spelling = _Spelling(outer, analysis)
    hidden, projection, guarded = _product(head, dict(through), spelling)
    before, hidden_text = spelling.unfolded(hidden)
    spelled = tuple((position, spelling.text(value)) for position, value in others)
    spelling.check_order()
    return HeadCall(
        node=outer.node,
        projection=projection,
        guarded=guarded,
        hidden=hidden_text,
        before=tuple(before),
        others=spelled,
        through=through,
        guards=tuple(_chunk_guards(chain)),
    )


def _product(head: Value, through: dict[str, str], spelling: _Spelling) -> tuple[Value, str, str]:
    """The hidden states of a head's last product, the product for the fused call, and what the guard looks at."""
    match head:
        case Call(Attr() as place, (hidden,), ()) if is_module_path(place):
            return hidden, render(place), _path(place)
        case Call(Global("torch.nn.functional.linear"), (hidden, Attr(owner, "weight"), bias), ()) if (
            is_module_path(owner) and bias == Attr(owner, "bias") and _path(owner).strip('"') in through
        ):
            return hidden, render(owner), _path(owner)
        case (
            Call(Global("torch.matmul"), (hidden, matrix), ())
            | Call(Attr(hidden, "matmul"), (matrix,), ())
            | Binary("@", hidden, matrix)
        ):
            weight = transposed(matrix)
            if isinstance(weight, Attr) and is_module_path(weight):
                projection = f"{PROJECTION}({render(weight)})"
                return hidden, projection, projection
            match matrix:
                case Call(Global("torch.cat" | "torch.concat"), (Sequence(_, (first, *_)),)) if isinstance(
                    weight := transposed(first), Attr
                ) and is_module_path(weight):
                    return hidden, f"{PROJECTION}({spelling.matrix(matrix)}.t())", _path(weight.base)
    raise Unwritable("the last product of the head is none that can be written down")


def _path(place: Value) -> str:
    """A place below `self` as a string literal."""
    return f'"{render(place).removeprefix("self.")}"'


# -- which modules are passed over ---------------------------------------------------------------------------


def _calls(chain: Chain) -> Iterator[Call]:
    """The calls between the loss and the head's product, that product left out."""
    for value in chain.trail[:-1]:
        call = value.base if isinstance(value, Index) else value
        if isinstance(call, Call) and call != chain.head.value:
            yield call


def _through(chain: Chain, reading: Reading) -> tuple[tuple[str, str], ...]:
    passed: dict[str, str] = {}
    for call in _calls(chain):
        if not is_module_path(call.func):
            continue
        name = _class_of(call.func, reading)
        if name is not None:
            passed[render(call.func).removeprefix("self.")] = name
        elif not (isinstance(call.func, Attr) and _class_of(call.func.base, reading)):
            raise Unwritable(f"`{render(call.func, 60)}` is passed over, and its class is not known")
        elif call.func.base == Self():
            raise Unwritable(f"`{render(call.func, 60)}` is a method that a subclass may have of its own")
    return tuple(sorted(passed.items(), key=lambda item: item[0].count(".")))


def _class_of(place: Value, reading: Reading) -> str | None:
    """The class of the module at a place, as the file spells it."""
    match reading.scope.at(reading.owner or "", place):
        case (InFile(name),):
            return name
        case (Plain(Call(Global("torch.nn.Identity"))),):
            return _of_torch("Identity", reading)
        case (Criterion(),):
            return _of_torch("CrossEntropyLoss", reading)
    return None


def _of_torch(name: str, reading: Reading) -> str | None:
    """A class of `torch.nn` as the file spells it."""
    if reading.scope.resolve(name) == Global(f"torch.nn.{name}"):
        return name
    return f"nn.{name}" if reading.scope.resolve("nn") == Global("torch.nn") else None


def kept_criterion(loss: Loss, reading: Reading) -> tuple[Value, str] | None:
    """The criterion that a loss calls as an attribute: its place, and its class as the file spells it.

    Raises `Unwritable` if the file has no name for the class.
    """
    place = loss.call.func
    if not is_module_path(place) or loss.kind != "cross_entropy":
        return None
    name = _class_of(place, reading)
    if name is None:
        raise Unwritable(f"the class of `{render(place, 60)}` has no name in the file")
    return place, name


# -- nothing else happens in there ---------------------------------------------------------------------------


def _others(chain: Chain, reading: Reading) -> list[tuple[int, Value]]:
    """What a head gives besides the logits: the other items of its tuple."""
    if not isinstance(chain.outer, Index):
        return []
    outer, index = chain.outer.base, chain.outer.index
    result = reading.inside(outer) if isinstance(outer, Call) else None
    if not isinstance(result, Sequence) or not isinstance(index, Const):
        raise Unwritable("what the head gives besides the logits is not known")
    chosen = index.value % len(result.items)
    return [(position, item) for position, item in enumerate(result.items) if position != chosen]


def _check_nothing_else(chain: Chain, others: list[tuple[int, Value]], reading: Reading) -> None:
    """Every call in the head is on the way to the logits or to another result, and nothing is stored."""
    known = set(_nested_calls([*chain.trail, *(value for _, value in others)]))
    for call in _calls(chain):
        inner = reading.inlined.get(call)
        if inner is None:
            continue
        if inner.stores:
            raise Unwritable(f"`{render(call.func, 60)}` stores something on an object")
        for record in inner.calls:
            if record.inside is not None or (record.call not in known and record.call.stamp is not None):
                raise Unwritable(f"`{render(record.call, 60)}` in `{render(call.func, 60)}` is not on the way")
        _check_sinks(inner, chain, reading)


def _check_sinks(inner: Trace, chain: Chain, reading: Reading) -> None:
    tested = {test for guard in chain.guards for test in (guard, negate(guard))}
    for sink in inner.sinks:
        harmless = (
            sink.kind == "return"
            or (sink.kind == "test" and sink.value in tested)
            or (sink.kind == "changed" and reading.has_head(sink.value))
        )
        if not harmless:
            raise Unwritable(f"the head does more than compute logits (line {getattr(sink.node, 'lineno', 0)})")


def _nested_calls(values: list[Value]) -> Iterator[Call]:
    seen: set[Value] = set()
    while values:
        value = values.pop()
        if value not in seen:
            seen.add(value)
            values += value.children()
            if isinstance(value, Call):
                yield value


def _chunk_guards(chain: Chain) -> Iterator[Value]:
    """`apply_chunking_to_forward` raises where the chunks do not fit: the size must say that there are none."""
    for call in _calls(chain):
        if isinstance(call.func, Global) and call.func.path.endswith(".apply_chunking_to_forward"):
            if not is_module_path(call.args[1]):
                raise Unwritable("the size of the chunks cannot be written down")
            yield Binary("==", call.args[1], Const(0))


# -- what it computes, as text -------------------------------------------------------------------------------


class _Spelling:
    """Values inside a head in the words of the function that calls it: parameters are what the call hands over."""

    def __init__(self, outer: Call, analysis: Analysis) -> None:
        node = outer.node
        assert isinstance(node, ast.Call)
        self.scope = analysis.reading.scope
        self.bound = function_names(analysis.block.node)
        self.taken = mentioned_names(analysis.block.node)
        self.given = dict(zip(outer.args, node.args, strict=True))
        self.given |= {value: keyword.value for (_, value), keyword in zip(outer.keywords, node.keywords, strict=True)}
        self.spelled: Counter[Value] = Counter()
        self.callers: dict[Call, Call] = {}
        for call, inner in analysis.reading.inlined.items():
            for record in inner.calls if inner is not None else ():
                self.callers.setdefault(record.call, call)
        self.order: list[tuple[int, ...]] = []

    def check_order(self) -> None:
        """Raises `Unwritable` where something is not called once, and in the order in which the original calls it.

        A dropout draws its random numbers in that order, another mask each time.
        """
        for value, node in self.given.items():
            calls = any(isinstance(child, ast.Call) for child in ast.walk(node))
            if calls and self.spelled[value] != 1:
                raise Unwritable(f"`{ast.unparse(node)[:60]}` would be computed {self.spelled[value]} times")
        if self.order != sorted(set(self.order)):
            raise Unwritable("what the head calls would be called twice, or in another order")

    def unfolded(self, value: Value) -> tuple[list[str], str]:
        """Statements that compute a value step by step, and the expression that it is after them."""
        if value in self.given:
            return [], self._argument(value)
        match value:
            case Call(Attr(inner, "reshape" | "view"), (Sequence(_, (Const(-1), width)),), ()) if (
                width == Index(Attr(inner, "shape"), Const(2)) and value not in self.given
            ):
                return self.unfolded(inner)  # The fused call takes one row per label in any shape.
            case Call(function, (inner,), ()):
                if FRESH in self.taken:
                    raise Unwritable(f"the name `{FRESH}` is taken")
                before, text = self.unfolded(inner)
                self._called(value)
                return [*before, f"{FRESH} = {self.function(function, value)}({text})"], FRESH
        return [], self.text(value)

    def text(self, value: Value) -> str:
        """One expression for a value."""
        if value in self.given:
            return self._argument(value)
        match value:
            case Call(function, arguments, ()) if not any(isinstance(argument, Starred) for argument in arguments):
                texts = ", ".join(map(self.text, arguments))
                self._called(value)
                return f"{self.function(function, value)}({texts})"
            case Const():
                return render(value)
            case Attr() if is_module_path(value):
                return render(value)
        raise Unwritable(f"`{render(value, 60)}` in the head cannot be written down")

    def matrix(self, value: Value) -> str:
        """A matrix put together from weights of the head, as the head's source puts it."""
        match value:
            case Call(Global(), (Sequence(_, items),), (("dim", Const(0)),)):
                return f"{self.function(value.func, value)}([{', '.join(map(self.matrix, items))}], dim=0)"
            case Call(Attr(weight, "t" as name), (), ()) if is_module_path(weight):
                return f"{render(weight)}.{name}()"
            case Attr() if is_module_path(value):
                return render(value)
        raise Unwritable(f"`{render(value, 60)}` in the head cannot be written down")

    def _called(self, value: Value) -> None:
        if isinstance(value, Call) and value.stamp is not None:
            self.order.append(self._moment(value))

    def _moment(self, call: Call) -> tuple[int, ...]:
        """Sorts calls as the original makes them; a function is walked later than it is called, hence the callers."""
        caller = self.callers.get(call)
        return (*(self._moment(caller) if caller is not None else ()), call.stamp or 0)

    def _argument(self, value: Value) -> str:
        node = self.given[value]
        self.spelled[value] += 1
        if any(isinstance(child, ast.Call) for child in ast.walk(node)):
            # All arguments are computed before anything in the head is.
            self.order.append((list(self.given).index(value) - len(self.given),))
        return ast.unparse(node)

    def function(self, function: Value, call: Call) -> str:
        """What is called: a module of the head, or a function by the name that the file has for it."""
        if is_module_path(function):
            return render(function)
        if isinstance(function, Global) and isinstance(call.node, ast.Call):
            text = ast.unparse(call.node.func)
            root, *attributes = text.split(".")
            meant = self.scope.resolve(root)
            same = isinstance(meant, Global) and ".".join((meant.path, *attributes)) == function.path
            if same and root not in self.bound:
                return text
        raise Unwritable(f"`{render(function, 60)}` in the head cannot be called from the function")
