"""A loss and its chain as a record for people: names resolved where that is short, else as the source has them."""

from __future__ import annotations

import ast

from fusegen.codegen.alignment import alignment
from fusegen.codegen.chain import Chain
from fusegen.codegen.findings import Found
from fusegen.codegen.labels import label_text, sources_of
from fusegen.codegen.logit_ops.step import Step
from fusegen.codegen.losses import Loss
from fusegen.codegen.reading import Reading
from fusegen.codegen.records import Head, Operation, VocabularyLoss
from fusegen.codegen.values import Call, Global, Index, Value, describe


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
        label_value=label_text(each.loss.labels, chain),
    )


def _default_alignment(loss: Loss) -> str:
    return {"causal": "shifted", "masked": "aligned"}.get(loss.kind, "unknown")


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
