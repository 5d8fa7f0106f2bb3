"""What `self.x` is, read from `__init__`: a linear, a criterion, a module of this file, a number, ...

    self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)   ->  Linear(rows="config.vocab_size")
    self.cls = BertOnlyMLMHead(config)                                            ->  InFile("BertOnlyMLMHead")

`Modules` answers for paths (`self.cls.predictions.decoder`), through classes that stand in the same file.
"""

from __future__ import annotations

import builtins
import itertools
from dataclasses import dataclass
from functools import cached_property

from fusegen.codegen.bindings import Trace
from fusegen.codegen.choosing import other_names
from fusegen.codegen.index import FileIndex
from fusegen.codegen.trace import trace
from fusegen.codegen.values import (
    Attr,
    Binary,
    Call,
    Const,
    Global,
    Index,
    Mapping,
    Param,
    Select,
    Self,
    Sequence,
    Unary,
    Value,
    is_none,
    render,
)

_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True, slots=True)
class Linear:
    """An `nn.Linear`: its output rows as spelled, and whether it has a bias (`no`, `yes`, `config`)."""

    rows: Value | None
    bias: str


@dataclass(frozen=True, slots=True)
class Criterion:
    """A `CrossEntropyLoss` kept as an attribute, with the arguments that it was made with."""

    made: Call


@dataclass(frozen=True, slots=True)
class InFile:
    """A module whose class stands in the same file."""

    class_name: str
    made: Call


@dataclass(frozen=True, slots=True)
class ModuleList:
    """A list of modules of one kind."""

    item: Member


@dataclass(frozen=True, slots=True)
class Tensor:
    """A parameter or buffer and its shape, None if `__init__` does not spell it."""

    shape: tuple[Value, ...] | None

    @property
    def is_scalar(self) -> bool:
        return self.shape is not None and all(size == Const(1) for size in self.shape)

    @property
    def is_vector(self) -> bool:
        """One dimension, or others of size 1 before it."""
        return bool(self.shape) and not self.is_scalar and all(size == Const(1) for size in (self.shape or ())[:-1])


@dataclass(frozen=True, slots=True)
class Plain:
    """Anything else that `__init__` stores."""

    value: Value


Member = Linear | Criterion | InFile | ModuleList | Tensor | Plain


class Scope:
    """One file: what a free name stands for, and what the classes in it hold."""

    def __init__(self, index: FileIndex) -> None:
        self.index = index
        self.stamps = itertools.count()
        self._members: dict[str, dict[str, tuple[Member, ...]]] = {}
        self._at: dict[tuple[str, Value], tuple[Member, ...]] = {}

    def resolve(self, name: str) -> Value:
        """The value of a name that a function does not bind: an import, a definition of this file, a builtin."""
        if name in self.index.ambiguous:
            return Global(f"..{name}")
        if name in self._locals:
            return Global(f".{name}")
        if name in self.index.imports:
            return Global(_canonical(self.index.imports[name]))
        return Global(name if name in _BUILTINS else f".{name}")

    @cached_property
    def loss_names(self) -> frozenset[str]:
        """Other names that the file gives to a cross-entropy."""
        return other_names(self.index.text)

    @cached_property
    def _locals(self) -> frozenset[str]:
        return frozenset(self.index.classes) | frozenset(self.index.functions)

    def members(self, class_name: str) -> dict[str, tuple[Member, ...]]:
        """Attributes of a class to all that its `__init__` may store there (None left out)."""
        if class_name not in self._members:
            found: dict[str, tuple[Member, ...]] = {}
            for block in reversed(self.index.mro(class_name)):
                init = block.methods.get("__init__")
                if init is not None:
                    found |= self._stored(trace(init.node, self.resolve, stamps=self.stamps))
            self._members[class_name] = found
        return self._members[class_name]

    def _stored(self, walked: Trace) -> dict[str, tuple[Member, ...]]:
        stored: dict[str, list[Member]] = {}
        biases = _biases_given_later(walked)
        for place, value, path in walked.stores:
            if place.base == Self():
                if not path:
                    stored.pop(place.name, None)
                for choice in _choices(value):
                    if not is_none(choice):
                        member = self._member(choice)
                        if isinstance(member, Linear):
                            member = Linear(member.rows, biases.get(choice, member.bias))
                        stored.setdefault(place.name, []).append(member)
        for record in walked.calls:
            match record.call:
                case Call(Attr(Self(), "register_buffer" | "register_parameter"), (Const(str(name)), made, *_)):
                    stored.setdefault(name, []).append(Tensor(_shape(made)))
                case Call(Attr(Self(), "add_module" | "register_module"), (Const(str(name)), made, *_)):
                    stored[name] = [*(stored.get(name, ()) if record.path else ()), self._member(made)]
        return {name: tuple(dict.fromkeys(members)) for name, members in stored.items()}

    def _member(self, value: Value) -> Member:
        match value:
            case Call(Global("torch.nn.Linear")):
                return Linear(value.argument(1, "out_features"), _bias(value.argument(2, "bias")))
            case Call(Global("torch.nn.utils.skip_init"), (made, *given), keywords):
                # The same module, whose parameters are not drawn.
                return self._member(Call(made, tuple(given), keywords, value.stamp, node=value.node))
            case Call(Global("torch.nn.CrossEntropyLoss")):
                return Criterion(value)
            case Call(Global("torch.nn.Parameter" | "torch.nn.Buffer"), (made, *_)):
                return Tensor(_shape(made))
            case Call(Global("torch.nn.ModuleList"), (items, *_)):
                return self._module_list(items)
            case Call(Global(path)) if path.startswith(".") and path[1:] in self.index.classes:
                return InFile(path[1:], value)
            case Call(Attr(Global(path), "_from_config" | "from_config")) | Call(Global(path)) if path.endswith(
                "from_config"
            ):
                owner = path.removesuffix("._from_config").removesuffix(".from_config").removeprefix(".")
                if owner in self.index.classes:
                    return InFile(owner, value)
        return Plain(value)

    def _module_list(self, items: Value) -> Member:
        made = getattr(items, "element", None) or (
            items.items[0] if isinstance(items, Sequence) and items.items else None
        )
        if made is None or (isinstance(items, Sequence) and len({self._member(item) for item in items.items}) != 1):
            return Plain(items)
        return ModuleList(self._member(made))

    def at(self, owner: str, path: Value) -> tuple[Member, ...]:
        """What stands at `path` (`self.cls.predictions`) in an instance of class `owner`; () if unknown."""
        key = (owner, path)
        if key not in self._at:
            self._at[key] = self._found_at(owner, path)
        return self._at[key]

    def _found_at(self, owner: str, path: Value) -> tuple[Member, ...]:
        match path:
            case Self():
                return (InFile(owner, Call(Global(f".{owner}"), ())),) if owner in self.index.classes else ()
            case Attr(base, name):
                found: list[Member] = []
                for holder in self.at(owner, base):
                    if not isinstance(holder, InFile) or self.is_shadowed(holder.class_name, name):
                        return ()
                    members = self.members(holder.class_name).get(name, ())
                    found += (self._as_made(member, holder) for member in members)
                return tuple(found)
            case Index(base, index):
                if isinstance(index, Const) and isinstance(index.value, str):
                    return self._entry(self.at(owner, base), index)
                lists = self.at(owner, base)
                if lists and all(isinstance(holder, ModuleList) for holder in lists):
                    return tuple(holder.item for holder in lists if isinstance(holder, ModuleList))
        return ()

    def is_shadowed(self, class_name: str, name: str) -> bool:
        """Whether the class has a method, property or attribute of that name, which comes before its modules."""
        return any(name in block.methods or name in block.assigned for block in self.index.mro(class_name))

    def _as_made(self, member: Member, holder: InFile) -> Member:
        """A member that its class got as an argument, as the one who made the holder spelled it."""
        match member:
            case Plain(Param(name)):
                return Plain(self._given(holder, name) or member.value)
            case Linear(Param(name), bias):
                return Linear(self._given(holder, name) or member.rows, bias)
        return member

    def _given(self, holder: InFile, name: str) -> Value | None:
        init = self.index.method(holder.class_name, "__init__")
        if init is None:
            return None
        names = [argument.arg for argument in init.node.args.args][1:]
        return holder.made.argument(names.index(name) if name in names else len(names), name)

    def _entry(self, holders: tuple[Member, ...], key: Value) -> tuple[Member, ...]:
        """`self.losses["ce"]` where `__init__` stored a dict display."""
        found = [
            self._member(value)
            for holder in holders
            if isinstance(holder, Plain) and isinstance(holder.value, Mapping)
            for name, value in holder.value.items
            if name == key
        ]
        return tuple(found)

    # -- what kind of thing a value is -----------------------------------------------------------------------

    def is_scalar(self, owner: str, value: Value) -> bool:
        """Whether a value is surely one number or a one-element tensor (a config entry counts as one)."""
        match value:
            case Const(constant):
                return isinstance(constant, int | float) and not isinstance(constant, bool)
            case Binary("+" | "-" | "*" | "/" | "**", left, right):
                return self.is_scalar(owner, left) and self.is_scalar(owner, right)
            case Unary("-", operand):
                return self.is_scalar(owner, operand)
            case Select(_, then, other):
                return self.is_scalar(owner, then) and self.is_scalar(owner, other)
            case Call(Global("float" | "int" | "math.sqrt"), _):
                return True
            case Call(Global("getattr"), (holder, Const(str()), *_)):
                return is_config(holder)
            case Call(Attr(base, "to" | "exp" | "float"), _):
                return self.is_scalar(owner, base)
            case Attr(base, _) if is_config(base):
                return True
            case Attr():
                members = self.at(owner, value)
                return bool(members) and all(self._scalar_member(owner, member) for member in members)
        return False

    def _scalar_member(self, owner: str, member: Member) -> bool:
        match member:
            case Tensor():
                return member.is_scalar
            case Plain(value):
                return self.is_scalar(owner, value)
        return False

    def is_vocabulary_bias(self, owner: str, value: Value) -> bool:
        """Whether a value is a parameter or buffer of one dimension, or the bias of a linear: one entry per row."""
        return self.bias_size(owner, value) is not None

    def bias_size(self, owner: str, value: Value) -> Value | None:
        """The number of entries of a bias over the vocabulary, None if it is not shown to be one."""
        match value:
            case Call(Attr(base, "to" | "float"), _):
                return self.bias_size(owner, base)
            case Attr(base, name):
                members = self.at(owner, value)
                if members and all(isinstance(member, Tensor) and member.is_vector for member in members):
                    return members[0].shape[-1]  # type: ignore[union-attr,index]
                holders = self.at(owner, base)
                if name == "bias" and len(holders) == 1 and isinstance(holders[0], Linear):
                    return holders[0].rows
        return None

    def expand(self, owner: str, value: Value, depth: int = 4) -> str:
        """A value spelled in terms of `config`, so that `self.vocab_size` and `self.config.vocab_size` read alike."""
        match value:
            case Attr(base, name) if not is_config(value) and depth and not is_config(base):
                members = self.at(owner, value)
                if len(members) == 1 and isinstance(members[0], Plain):
                    return self.expand(owner, members[0].value, depth - 1)
            case Call(Attr(base, "get_text_config")):
                return self.expand(owner, base, depth) + ".text"
            case Attr(Call(Global("copy.deepcopy"), (copied,)), name):
                return self.expand(owner, Attr(copied, name), depth)
        text = render(value)
        return (
            text.removeprefix("self.").replace("config.get_text_config()", "config.text").replace("text_config", "text")
        )


def is_config(value: Value) -> bool:
    """Whether a value is a configuration object: `config`, `self.config.text_config`, `config.get_text_config()`."""
    match value:
        case Param(name):
            return name == "config" or name.endswith("_config")
        case Attr(base, name):
            return name == "config" or (is_config(base) and (name.endswith("config") or name in ("decoder", "encoder")))
        case Call(Attr(base, "get_text_config"), _):
            return is_config(base)
        case Select(_, then, other):
            return is_config(then) and is_config(other)
    return False


def _canonical(path: str) -> str:
    """One spelling for a name of torch, whichever module it was imported through."""
    for alias, name in (
        ("torch.nn.modules.loss.", "torch.nn."),
        ("torch.nn.modules.", "torch.nn."),
        ("torch.nn.utils.init.", "torch.nn.utils."),
        ("torch.functional.", "torch."),
    ):
        if path.startswith(alias):
            return name + path.removeprefix(alias)
    return path


def _choices(value: Value) -> list[Value]:
    if isinstance(value, Select):
        return _choices(value.then) + _choices(value.other)
    return [value]


def _biases_given_later(walked: Trace) -> dict[Value, str]:
    """Linears that get a bias after they are made (`self.decoder.bias = self.bias`), and whether they always do."""
    return {
        made: "config" if path else "yes"
        for place, value, path in walked.stores
        if place.name == "bias" and not is_none(value)
        for made in _choices(place.base)
    }


def _bias(argument: Value | None) -> str:
    if argument is None:
        return "yes"
    if isinstance(argument, Const):
        return "yes" if argument.value else "no"
    return "config"


def _is_number(value: Value) -> bool:
    match value:
        case Const() | Call(Global("float" | "int" | "math.sqrt" | "math.log" | "numpy.log" | "numpy.sqrt")):
            return True
        case Attr(base, _):
            return is_config(base)
        case Unary(_, operand):
            return _is_number(operand)
        case Binary(_, left, right):
            return _is_number(left) and _is_number(right)
    return False


def _shape(made: Value) -> tuple[Value, ...] | None:
    """The shape of a tensor that `__init__` makes, as far as it is spelled."""
    match made:
        case Call(Global("torch.nn.Parameter" | "torch.nn.Buffer"), (inner, *_)):
            return _shape(inner)
        case Call(Global("torch.tensor"), (inner, *_)):
            if isinstance(inner, Sequence):
                flat = not any(isinstance(item, Sequence) for item in inner.items)
                return (Const(len(inner.items)),) if flat else None
            return () if isinstance(inner, Const) or is_config(getattr(inner, "base", inner)) else None
        case Call(Global("torch.ones" | "torch.zeros" | "torch.empty" | "torch.randn" | "torch.rand"), sizes) if sizes:
            return tuple(sizes[0].items) if isinstance(sizes[0], Sequence) else tuple(sizes)
        case Call(Global("torch.full"), (Sequence(_, sizes), *_)):
            return tuple(sizes)
        case Binary("*" | "/" | "+" | "-", left, right):
            shapes = [_shape(side) for side in (left, right) if not _is_number(side)]
            return shapes[0] if len(shapes) == 1 else None
    return None
