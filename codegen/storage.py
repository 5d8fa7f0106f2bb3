"""Which values may share a tensor, and which calls change one in place, by torch's conventions.

x.view(-1)  shares with  x          x.mul_(2)  changes  x
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

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
    Value,
)

# Methods whose result may be the same tensor, or a view of it.
VIEWS = frozenset(
    "view reshape flatten unflatten transpose permute squeeze unsqueeze contiguous to float double "  # noqa: SIM905
    "half bfloat16 type type_as expand expand_as narrow select t detach view_as swapaxes swapdims "
    "movedim moveaxis chunk split unbind ravel diagonal tensor_split hsplit vsplit dsplit "
    "split_with_sizes unfold numpy as_strided real imag".split()
)


# Functions of torch whose result may share their first argument's storage, besides those named like a view.
_SHARING_FUNCTIONS = frozenset(["as_tensor", "asarray", "Parameter", "from_numpy", "view_as_real", "view_as_complex"])


SHARING_ATTRIBUTES = frozenset(["T", "mT", "H", "mH", "data", "grad", "real", "imag"])


_COLLECTIONS = frozenset(["list", "tuple", "dict", "set"])


CONTAINER_METHODS = frozenset(
    "pop popitem update append extend insert clear setdefault remove reverse rotate appendleft popleft "  # noqa: SIM905
    "extendleft move_to_end discard".split()
)

# Methods of a container that leave it as it is.
_CONTAINER_READS = frozenset("get keys values items copy index count to_tuple".split())  # noqa: SIM905


def changed_by(call: Call) -> Iterable[Value]:
    """The values that a call changes in place, by torch's conventions: `x.op_()`, `op_(x)`, `out=`, `inplace=`."""
    match call.func:
        case Attr(base, name) if changes(name) or (is_container(base) and name not in _CONTAINER_READS):
            yield base
        case Call(Global("getattr"), (base, name, *_)) if not (
            isinstance(name, Const) and not changes(str(name.value))
        ):
            yield base
        case Global(path) if path.endswith("_") and not path.endswith("__"):
            yield from call.args
        case Global(path) if path.startswith("torch.nn.functional.") and Const(True) in call.args[1:]:
            yield call.args[0]
    for keyword, value in call.keywords:
        if keyword == "out":
            yield value
        elif keyword == "inplace" and not (isinstance(value, Const) and value.value is False):
            yield from call.args


def changes(method: str) -> bool:
    """Whether a method changes its object by its name: `mul_`, `append`, `__setitem__`, `__iadd__`."""
    if method.endswith("__"):
        return method.startswith(("__i", "__seti", "__deli"))
    return method.endswith("_") or method in CONTAINER_METHODS


def is_made_of_torch(value: Value) -> bool:
    """An object of a class of torch: an attribute set on it (`criterion.ignore_index = 0`) changes what it does."""
    return isinstance(value, Call) and isinstance(value.func, Global) and value.func.path.startswith("torch.")


def is_output_class(path: str) -> bool:
    """Whether a global is an output type by its name: a class that holds what it gets and does nothing with it."""
    name = path.rsplit(".", 1)[-1]
    return "Output" in name and name[:1].isupper() and not path.startswith("torch.")


def is_container(value: Value) -> bool:
    """Something made here that holds other values as they are."""
    match value:
        case Sequence() | Mapping() | Comprehension():
            return True
        case Call(Global(path)):
            return path in _COLLECTIONS or is_output_class(path)
        case Store(base, _, _):
            return is_container(base)
        case Binary("+" | "*" | "|", left, right) | Select(_, left, right):
            return is_container(left) or is_container(right)
    return False


def is_tuple(value: Value) -> bool:
    """A container that never changes: what `+=` makes of it is another one."""
    match value:
        case Sequence(kind, _):
            return kind == "tuple"
        case Call(Global(path)):
            return path == "tuple"
        case Binary("+", left, right) | Select(_, left, right):
            return is_tuple(left) and is_tuple(right)
        case Binary("*", left, right):
            return is_tuple(left) or is_tuple(right)
    return False


def roots(value: Value, known: dict[int, frozenset[int]]) -> frozenset[int]:
    """Digests of the tensors and objects whose storage `value` may share; `known` keeps them by digest."""
    found = known.get(value.digest)
    if found is None:
        shared = sharers(value)
        own = shared is None or isinstance(value, Opaque | Attr)
        found = frozenset((value.digest,) if own else ()).union(*(roots(sharer, known) for sharer in shared or ()))
        known[value.digest] = found
    return found


def sharers(value: Value) -> tuple[Value, ...] | None:
    """The values that `value` may share storage with; None if it has storage of its own."""
    match value:
        case Const() | Global() | Self() | Slice():
            return ()
        case Index(base, _) | Starred(base):
            return (base,)
        case Store(base, _, stored):
            return (base, stored) if is_container(base) else (base,)
        case Attr(base, name):
            return (base,) if name in SHARING_ATTRIBUTES or is_container(base) else ()
        case Call(Attr(base, name), args, _) if name in VIEWS or is_container(base):
            return (base, *args) if is_container(base) else (base,)
        case Call(Global("torch.einsum"), (_, *operands)):
            return tuple(operands)
        case Call(Global(path), (first, *_), _) if path.startswith("torch."):
            name = path.rsplit(".", 1)[-1]
            return (first,) if name in VIEWS or name in _SHARING_FUNCTIONS else None
        case Call(Global(), args, keywords) if is_container(value):
            return (*args, *(item for _, item in keywords))
        case Select(_, then, other):
            return (then, other)
        case Logic(_, items) | Sequence(_, items):
            return items
        case Mapping(items):
            return tuple(item for _, item in items)
        case Comprehension(element, sources, _):
            return (element, *sources)
        case Opaque(_, _, parts):
            return parts
        case Binary(_, left, right) if is_container(value):
            return (left, right)
        case Binary("+" | "-" | "*" | "/", left, _) if isinstance(value.node, ast.AugAssign):
            return (left,)
    return None
