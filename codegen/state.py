"""Whose state a value is: the model's own, that of something else which holds it, or its own.

    self.lm_head.weight.data     the model's          [hidden_states][0]     what `hidden_states` is
    labels.new_zeros(2)          new storage          Stepper(self)          an object that acts when it is used

`storage` says what torch's views share; here unknown calls may share with whatever they got.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from fusegen.codegen.harmless import in_place, makes_new
from fusegen.codegen.members import Plain, Tensor, is_config
from fusegen.codegen.operands import is_module_path
from fusegen.codegen.reading import Reading
from fusegen.codegen.storage import VIEWS, is_container, is_output_class
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
    Select,
    Self,
    Sequence,
    Slice,
    Starred,
    Store,
    Unary,
    Value,
)

_GIVE_PARAMETERS = frozenset(
    "parameters named_parameters buffers state_dict get_parameter modules children get_input_embeddings "  # noqa: SIM905
    "get_output_embeddings".split()
)

_CREATING = frozenset("zeros ones full empty tensor arange rand randn".split())  # noqa: SIM905

_LAZY = frozenset(["map", "filter", "iter"])


def is_new(value: Value) -> bool:
    """Whether a value is the result of an operation that makes a tensor, or a number."""
    match value:
        case Const() | Slice():
            return True
        case Unary(op, _):
            return op != "+"  # which gives back the tensor itself
        case Binary():
            return not is_container(value) and not isinstance(value.node, ast.AugAssign)
        case Call(Attr(_, name)):
            return makes_new(name)
        case Call(Global(path)) if path.startswith("torch.nn.functional."):
            return path.endswith(("_loss", ".cross_entropy"))
        case Call(Global(path)):
            name = path.removeprefix("torch.")
            return name != path and (makes_new(name) or name in _CREATING or name.endswith(("_entropy", "_loss")))
    return False


def is_of_model(value: Value, reading: Reading) -> bool:
    """Whether a change of a value may change the model: its parameters, its modules, what its methods give."""
    if is_new(value):
        return False
    match value:
        case Self() | Global():
            return True
        case Attr() | Index() if is_module_path(value):
            return True
        case Attr(base, _) | Index(base, _) | Starred(base):
            return is_of_model(base, reading)
        case Call(Attr(base, _) as place, args) if is_module_path(place):
            result = reading.inside(value)
            if result is None and not reading.scope.at(reading.owner or "", place):
                return True
            return any(is_of_model(part, reading) for part in ((result,) if result is not None else args))
        case Call(Attr(base, _), args, keywords):
            given = (base, *args, *(item for _, item in keywords))
            return any(is_of_model(each, reading) for each in given)
        case Call(Global(), args, keywords):
            return any(is_of_model(argument, reading) for argument in (*args, *(item for _, item in keywords)))
        case Call():
            return True
        case Opaque(_, _, parts):
            return not parts or any(is_of_model(part, reading) for part in parts)
    return any(is_of_model(child, reading) for child in value.children())


def parts_of_model(value: Value, reading: Reading) -> Iterator[Value]:
    """The places of the model that a value is, or the calls that give some of its parameters."""
    match value:
        case Attr() | Index() if is_module_path(value):
            yield value
        case Call(Attr(base, name)) if name in _GIVE_PARAMETERS:
            yield value
        case Call(Attr(base, name)) if name in VIEWS or is_container(base):
            yield from parts_of_model(base, reading)
        case Call(Attr() as place) if is_module_path(place) and (result := reading.inside(value)) is not None:
            yield from parts_of_model(result, reading)
        case Attr(base, _) | Index(base, _) | Starred(base):
            yield from parts_of_model(base, reading)
        case Call(Global(), args, keywords) if not is_new(value):
            given = (*args, *(item for _, item in keywords))
            yield from (part for each in given for part in parts_of_model(each, reading))
        case Binary() if not is_container(value):
            return
        case Store(base, _, _) if not is_container(base):
            yield from parts_of_model(base, reading)
        case Select() | Sequence() | Mapping() | Opaque() | Comprehension() | Store() | Binary() | Logic():
            yield from (part for child in value.children() for part in parts_of_model(child, reading))


def may_be_module(value: Value, reading: Reading) -> bool:
    """Whether a value may be a module, which `.to(...)` changes: what modules return are tensors."""
    if is_new(value):
        return False
    match value:
        case Self() | Global():
            return True
        case Attr() | Index() if is_module_path(value):
            return not is_tensor(value, reading)
        case Call(Attr() as place, _) if is_module_path(place):
            if reading.scope.at(reading.owner or "", place) or is_tensor(place.base, reading):
                return False
            result = reading.inside(value)
            return result is None or may_be_module(result, reading)
        case Call(Global(path)) if (
            path.startswith("torch.") and not path.startswith("torch.nn.")
        ) or "functional" in path:
            return False
        case Call(Attr(base, _)) | Attr(base, _) | Index(base, _):
            return may_be_module(base, reading)
        case Call(func, args):
            return not isinstance(func, Global) or any(may_be_module(argument, reading) for argument in args)
        case Opaque(_, _, parts):
            return any(may_be_module(part, reading) for part in parts)
    return any(may_be_module(child, reading) for child in value.children())


def made_of(value: Value, known: dict[Value, frozenset[Value]]) -> frozenset[Value]:
    """The values whose storage a value may share, if whatever is called may give back what it got."""
    if value not in known:
        known[value] = frozenset()
        match value:
            case Select(_, then, other):
                parts: tuple[Value, ...] = (then, other)
            case Index(base, _) if not is_module_path(value):
                parts = (base,)
            case _:
                parts = () if is_new(value) or is_module_path(value) else tuple(value.children())
        known[value] = frozenset((value,)).union(*(made_of(part, known) for part in parts))
        if isinstance(value, Const | Global | Self | Slice):
            known[value] = frozenset()
    return known[value]


def acts_when_used(value: Value, reading: Reading) -> bool:
    """Whether operators, loops and attributes may run code of a value's own: objects of unknown classes, iterators."""
    match value:
        case Comprehension():
            return isinstance(value.node, ast.GeneratorExp) or any(
                acts_when_used(source, reading) for source in value.sources
            )
        case Call() if is_container(value):
            return any(acts_when_used(child, reading) for child in value.children())
        case Call(Global(path), args):
            return (
                path in _LAZY
                or (_is_class(path, reading) and not path.startswith("torch.") and not is_output_class(path))
                or any(argument == Self() or acts_when_used(argument, reading) for argument in args)
                or _is_generator(value, reading)
            )
        case Call(Attr() | Index() | Call()):
            return _is_generator(value, reading)
        case Call():
            return True
        case Attr() | Index() if is_module_path(value):
            return False
    return any(acts_when_used(child, reading) for child in value.children())


def _is_class(path: str, reading: Reading) -> bool:
    return path.rsplit(".", 1)[-1][:1].isupper() or path.removeprefix(".") in reading.scope.index.classes


def _is_generator(call: Call, reading: Reading) -> bool:
    block, _ = reading.called(call)
    return (
        block is not None
        and "yield" in block.text
        and any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(block.node))
    )


def is_plain_number(value: Value, reading: Reading) -> bool:
    """Whether an attribute of the model is a number or a string by `__init__`: `+=` makes another one of it."""
    members = reading.scope.at(reading.owner or "", value)
    return bool(members) and all(isinstance(each, Plain) and isinstance(each.value, Const) for each in members)


def is_tensor(value: Value, reading: Reading) -> bool:
    """Whether a place in the model is a parameter or a buffer by `__init__`."""
    members = reading.scope.at(reading.owner or "", value)
    return bool(members) and all(isinstance(each, Tensor) for each in members)


def makes_module(value: Value) -> bool:
    """Whether `__init__` made what is called: a module of a class of its own, or an activation by its name."""
    match value:
        case Call(Global(path)):
            name = path.rsplit(".", 1)[-1]
            return (name[:1].isupper() and not in_place(value)) or name == "get_activation"
        case Call(Attr(Global(), "from_config" | "_from_config") | Index(Global())) | Index(Global()):
            return True
        case Attr(base, name):
            return is_config(base) and "act" in name
        case Select(_, then, other):
            return makes_module(then) and makes_module(other)
    return False
