"""What the labels of a loss start as, and what a forward makes of them, as a text to compare releases by.

labels = labels.clamp(min=0).to(logits.device)   ->   "labels.clamp(min=0)"
"""

from __future__ import annotations

import ast
import hashlib
import re

from fusegen.codegen.alignment import KEEPS
from fusegen.codegen.chain import Chain
from fusegen.codegen.logit_ops.step import Refusal
from fusegen.codegen.values import (
    Attr,
    Call,
    Const,
    Global,
    Index,
    Opaque,
    Param,
    Select,
    Self,
    Sequence,
    Store,
    Value,
    render,
)

# How much of a text is shown, and how much is compared.
_SHOWN, _WHOLE = 160, 1_000_000


def sources_of(labels: Value) -> list[Value]:
    """The values that labels start as, below moves, views, slices and branches."""
    match labels:
        case Call(Attr(base, name), _, _) if name != "pop":
            return sources_of(base)
        case Index(base, _):
            return sources_of(base)
        case Select(_, then, other):
            return sources_of(then) + sources_of(other)
        case Store(base, _, _):
            return sources_of(base)
        case Opaque(_, _, parts):
            return [source for part in parts[:1] for source in sources_of(part)]
    return [labels]


def are_labels(value: Value) -> bool:
    """Whether a value starts as an argument that has the name of labels."""
    return any(isinstance(source, Param) and source.name.endswith("labels") for source in sources_of(value))


_NAMED = re.compile(r"(\w*_)?(labels?|targets?)")
_SHORT = re.compile(r"(\w*_)?(tgt|gold|y|answers?|next_tokens?)")


def may_be_labels(value: Value, *, short: bool = False) -> bool:
    """Whether a value is made of an argument that may be labels by its name: `targets`; `y` as well if `short`."""
    match value:
        case Param(name) | Index(_, Const(str(name))):
            return _NAMED.fullmatch(name) is not None or (short and _SHORT.fullmatch(name) is not None)
        case Call(Attr(base, _)) | Index(base, _) | Store(base, _, _):
            return may_be_labels(base, short=short)
        case Call(Global(path), parts) if path.startswith("torch."):
            return any(may_be_labels(part, short=short) for part in parts)
        case Select(_, then, other):
            return may_be_labels(then, short=short) or may_be_labels(other, short=short)
        case Sequence() | Opaque():
            return any(may_be_labels(part, short=short) for part in value.children())
    return False


def label_text(labels: Value, chain: Chain | Refusal) -> str:
    """The value of labels as a text; one that is too long ends in a hash of the whole.

    Moves and views are left out, for they change no entry, and so is what the chain says or what goes into the head.
    """
    text = render(_settled(labels, _short(chain)), _WHOLE)
    if len(text) <= _SHOWN:
        return text
    return f"{text[:_SHOWN]}… #{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _short(chain: Chain | Refusal) -> dict[Value, Value]:
    """What need not be spelled: the logits, and what else than labels goes into a module behind the hidden states."""
    if isinstance(chain, Refusal):
        return {}
    found: dict[Value, Value] = dict.fromkeys(chain.trail, Global("logits"))
    seen: set[Value] = set()
    waiting = [chain.head.hidden]
    while waiting:
        value = waiting.pop()
        if value not in seen:
            seen.add(value)
            waiting += value.children()
            if isinstance(value, Call) and _is_own(value.func):
                found.setdefault(value, _with_labels_alone(value))
    return found


def _is_own(function: Value) -> bool:
    """Whether a function is a module or a method of the class: `self.model`, `self.model.encoder`."""
    while isinstance(function, Attr):
        function = function.base
    return isinstance(function, Self)


def _with_labels_alone(call: Call) -> Call:
    args = tuple(value for value in call.args if are_labels(value))
    return Call(call.func, args, tuple((name, value) for name, value in call.keywords if are_labels(value)))


def _settled(value: Value, known: dict[Value, Value]) -> Value:
    """A value without moves and views, and with what went into a step that has no rule; `known` are done."""
    if value not in known:
        match value:
            case Call(Attr(base, name)) if name in KEEPS and base != Self():
                known[value] = _settled(base, known)
            case Opaque(why, _, parts):
                step = ast.unparse(value.node) if isinstance(value.node, ast.expr) else why
                known[value] = Call(Global(f"<{step}>"), tuple(_settled(part, known) for part in parts))
            case _:
                known[value] = value.with_children(lambda child: _settled(child, known))
    return known[value]
