"""A loss and its chain as a record for people: names resolved where that is short, else as the source has them."""

from __future__ import annotations

import ast
import hashlib

from fusegen.codegen.alignment import KEEPS, alignment
from fusegen.codegen.chain import Chain
from fusegen.codegen.findings import Found
from fusegen.codegen.logit_ops.step import Refusal, Step
from fusegen.codegen.losses import Loss
from fusegen.codegen.reading import Reading
from fusegen.codegen.records import Head, Operation, VocabularyLoss
from fusegen.codegen.values import Attr, Call, Global, Index, Opaque, Select, Self, Store, Value, describe, render

# How much of the labels' value is shown, and how much is compared.
_SHOWN, _WHOLE = 160, 1_000_000


def vocabulary_loss(each: Found, reading: Reading) -> VocabularyLoss:
    chain = each.chain
    met = alignment(each.loss, chain) if isinstance(chain, Chain) else None
    node = each.record.call.node
    vocab_size = each.loss.vocab_size
    if vocab_size is None and isinstance(chain, Chain):
        vocab_size = next((step.width for step in chain.steps if step.width is not None), None)
    return VocabularyLoss(
        kind=each.loss.kind,
        call=each.loss.spelling,
        labels=met
        if isinstance(met, str)
        else ("preshifted" if each.loss.preshifted else _default_alignment(each.loss)),
        label_source=" or ".join(dict.fromkeys(describe(source) for source in sources_of(each.loss.labels))),
        vocab_size=describe(vocab_size) if vocab_size is not None else None,
        keywords=tuple((name, _spelled(name, value, each.loss)) for name, value in each.loss.keywords),
        head=_head(chain, reading) if isinstance(chain, Chain) else None,
        chain=tuple(_operation(step) for step in reversed(chain.steps) if step.op) if isinstance(chain, Chain) else (),
        line=getattr(node, "lineno", 0),
        column=getattr(node, "col_offset", 0),
        label_value=_label_value(each.loss.labels, chain),
    )


def _default_alignment(loss: Loss) -> str:
    return {"causal": "shifted", "masked": "aligned"}.get(loss.kind, "unknown")


def _label_value(labels: Value, chain: Chain | Refusal) -> str:
    """What labels are, with `logits` for what the chain says; a long text ends in a hash of the whole."""
    known: dict[Value, Value] = dict.fromkeys(chain.trail, Global("logits")) if isinstance(chain, Chain) else {}
    text = render(_settled(labels, known), _WHOLE)
    if len(text) <= _SHOWN:
        return text
    return f"{text[:_SHOWN]}… #{hashlib.sha256(text.encode()).hexdigest()[:8]}"


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


def _spelled(name: str, value: Value, loss: Loss) -> str:
    """A keyword of the loss (or of the criterion behind it) as it is written at the call."""
    for call in (loss.call, loss.call.func):
        for keyword in getattr(call.node, "keywords", ()):
            if keyword.arg == (None if name == "**" else name):
                return ast.unparse(keyword.value)
    return describe(value)


def _operation(step: Step) -> Operation:
    return Operation(
        step.op,
        tuple((name, _argument(value)) for name, value in step.arguments),
        describe(step.when) if step.when is not None else None,
        getattr(step.node, "lineno", 0),
    )


def _argument(value: Value) -> str:
    text = describe(value)
    return text.removeprefix("torch.") if isinstance(value, Global) else text


def _head(chain: Chain, reading: Reading) -> Head:
    outer = chain.outer.base if isinstance(chain.outer, Index) else chain.outer
    expression = describe(outer.func) if isinstance(outer, Call) else chain.head.linear
    return Head(
        expression=expression,
        linear=chain.head.linear,
        hidden=_hidden_text(chain),
        rows=reading.expand(chain.head.rows) if chain.head.rows is not None else None,
        bias=chain.head.bias,
        before=_before(chain.head.hidden, expression, outer) if isinstance(outer, Call) else (),
        line=getattr((outer or chain.head.value).node, "lineno", 0),
    )


def _hidden_text(chain: Chain) -> str:
    """What is handed to the head (to the composite one, where the linear is inside), as written."""
    call = (chain.outer.base if isinstance(chain.outer, Index) else chain.outer) or chain.head.value
    node = call.node
    if isinstance(node, ast.Call) and node.args:
        return ast.unparse(node.args[0])
    return describe(chain.head.hidden)


def _before(hidden: Value, head: str, outer: Call) -> tuple[str, ...]:
    """The modules and functions that a composite head applies before its linear, first applied first."""
    names: list[str] = []
    while isinstance(hidden, Call) and hidden not in outer.args:
        function = hidden.func
        name = describe(function)
        if not (isinstance(function, Global) or name.startswith(f"{head}.")):
            break
        names.append(name)
        if not hidden.args:
            break
        hidden = hidden.args[0]
    return tuple(reversed(names))
