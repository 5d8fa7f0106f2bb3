"""The fused call of a plan: which adapter, and the text of every argument.

The order of the chain must be the kernel's own (cast, bias, scale, divisor, soft cap, vocabulary slice), each
at most once: the kernel computes them in that order and no other.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from fusegen.codegen.findings import Found
from fusegen.codegen.logit_ops.step import Step
from fusegen.codegen.losses import Loss
from fusegen.codegen.operands import condition_text, python_text
from fusegen.codegen.records import Site
from fusegen.codegen.values import Attr, Binary, Call, Const, Global, Value, render
from fusegen.codegen.vocabulary import own_width

_ADAPTERS = {"causal": "causal_lm_loss", "masked": "masked_lm_loss", "cross_entropy": "cross_entropy_loss"}
_STOCK = {"causal": "ForCausalLMLoss", "masked": "ForMaskedLMLoss", "cross_entropy": None}
_ORDER = ("logits_dtype", "vocab_bias", "scale", "divisor", "softcap", "valid_vocab", "loss_dtype")
_CRITERION = frozenset(("ignore_index", "reduction", "label_smoothing"))


@dataclass(frozen=True, slots=True)
class Arguments:
    """`function(hidden_states, head, labels, **keywords, **spread)`; `stock` names the loss that must be in place."""

    function: str
    stock: str | None
    hidden_states: str
    head: str
    labels: str
    keywords: tuple[tuple[str, str], ...]
    spread: str | None
    guards: tuple[str, ...]

    def all(self) -> list[tuple[str | None, str]]:
        """Every argument with its keyword, None for positional ones."""
        positional = [(None, self.hidden_states), (None, self.head), (None, self.labels)]
        return [*positional, *self.keywords, *((("**", self.spread),) if self.spread else ())]


class _Unwritable(Exception):
    """An argument that has no faithful text: turned into a refusal by `loss_arguments`."""


def loss_arguments(site: Site, found: Found, head: Call, stable: frozenset[str]) -> Arguments | str:
    """The fused call of a match, or a sentence on why it cannot be written."""
    try:
        return _arguments(site, found, head, stable)
    except _Unwritable as reason:
        return str(reason)


def _arguments(site: Site, found: Found, head: Call, stable: frozenset[str]) -> Arguments:
    loss, described = found.loss, site.losses[0]
    head_text = render(head.func)
    if described.labels not in {"causal": ("shifted", "preshifted"), "masked": ("aligned",)}.get(
        loss.kind, ("aligned",)
    ):
        raise _Unwritable(f"labels that are {described.labels} need rows chosen on both sides")
    transforms = _transforms(found, head, head_text, stable)
    keywords, labels, spread = _criterion(loss, found) if loss.kind == "cross_entropy" else _stock(loss)
    guards = tuple(_guard(guard) for guard in site.guards)
    assert isinstance(head.node, ast.Call)
    return Arguments(
        function=_ADAPTERS[loss.kind],
        stock=_STOCK[loss.kind],
        hidden_states=ast.unparse(head.node.args[0]),
        head=head_text,
        labels=labels,
        keywords=(*keywords, *transforms),
        spread=spread,
        guards=guards,
    )


def _guard(text: str) -> str:
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        raise _Unwritable(f"the condition that {text} cannot be checked in the forward") from None
    return text


# -- what stands between head and loss -----------------------------------------------------------------------


def _transforms(found: Found, head: Call, head_text: str, stable: frozenset[str]) -> list[tuple[str, str]]:
    steps = [step for step in reversed(found.chain.steps) if step.op]  # type: ignore[union-attr]
    named = [
        _transform(step, position, len(steps), found.loss, head, head_text, stable)
        for position, step in enumerate(steps)
    ]
    kept = [pair for pair in named if pair is not None]
    places = [_ORDER.index(name) for name, _ in kept]
    if places != sorted(set(places)):
        raise _Unwritable(
            f"the operations {', '.join(step.op for step in steps)} are in another order than the kernel's"
        )
    return kept


def _transform(
    step: Step, position: int, count: int, loss: Loss, head: Call, head_text: str, stable: frozenset[str]
) -> tuple[str, str] | None:
    name, operand = step.arguments[0]
    match step.op:
        case "cast" if position == count - 1 and loss.kind != "cross_entropy":
            if operand == Global("torch.float32"):
                return None  # the stock loss computes in float32 by itself
            raise _Unwritable("the logits are cast to another dtype than float32 before the loss")
        case "cast":
            keyword = "loss_dtype" if position == count - 1 else "logits_dtype"
            if operand != Global("torch.float32") or (keyword == "logits_dtype" and position):
                raise _Unwritable("a cast that is not the first or the last operation, or not to float32")
        case "bias":
            keyword, operand = "vocab_bias", _without_move(operand)
        case "scale":
            keyword = "scale" if name == "multiply" else "divisor"
        case "soft_cap":
            keyword = "softcap"
        case "vocab_slice":
            keyword = "valid_vocab"
        case _:
            raise _Unwritable(f"the fused call has no keyword for {step.op}")
    text = python_text(operand, head, head_text, stable)
    if text is None:
        raise _Unwritable(f"an operand of {step.op} cannot be written down: {render(operand, 80)}")
    if step.when is None or step.when == Binary("is not", operand, Const(None)):
        return keyword, text
    condition = condition_text(step.when, head, head_text, stable)
    if condition is None:
        raise _Unwritable(f"the condition of {step.op} cannot be written down: {render(step.when, 80)}")
    return keyword, f"{text} if {condition} else None"


def _without_move(operand: Value) -> Value:
    match operand:
        case Call(Attr(inner, "to"), (Attr(_, "device"),), ()):
            return inner
    return operand


# -- what the loss is called with ----------------------------------------------------------------------------


def _stock(loss: Loss) -> tuple[list[tuple[str, str]], str, str | None]:
    node = loss.call.node
    assert isinstance(node, ast.Call)
    given: list[tuple[str | None, str]] = [
        *zip(
            ("logits", "labels", "vocab_size", "num_items_in_batch", "ignore_index"),
            map(ast.unparse, node.args),
            strict=False,
        ),
        *((keyword.arg, ast.unparse(keyword.value)) for keyword in node.keywords),
    ]
    own = loss.vocab_size is not None and own_width(loss.vocab_size)
    keywords = [
        (name, "None" if name == "vocab_size" and own else text)
        for name, text in given
        if name not in (None, "logits", "labels")
    ]
    spreads = [text for name, text in given if name is None]
    if len(spreads) > 1:
        raise _Unwritable("the loss is called with several `**` arguments")
    labels = next((text for name, text in given if name == "labels"), "None")
    return [(name, text) for name, text in keywords if name is not None], labels, spreads[0] if spreads else None


def _criterion(loss: Loss, found: Found) -> tuple[list[tuple[str, str]], str, str | None]:
    unknown = [name for name, _ in loss.keywords if name not in _CRITERION]
    if unknown:
        raise _Unwritable(f"`{unknown[0]}` of the criterion is not handed on")
    keywords = []
    for name, value in loss.keywords:
        text = python_text(value, value, "", frozenset())
        if text is None:
            raise _Unwritable(f"`{name}` of the criterion cannot be written down")
        keywords.append((name, text))
    widths = [step.width for step in found.chain.steps if step.width is not None]  # type: ignore[union-attr]
    if widths and not own_width(widths[0]):
        text = python_text(widths[0], widths[0], "", frozenset())
        if text is None:
            raise _Unwritable("the width that the loss views its logits as cannot be written down")
        keywords.insert(0, ("vocab_size", text))
    node = loss.call.node
    assert isinstance(node, ast.Call)
    return keywords, ast.unparse(_below_views(node.args[1])), None


def _below_views(node: ast.expr) -> ast.expr:
    """`labels` of `labels.contiguous().view(-1)`: the fused call flattens by itself."""
    match node:
        case ast.Call(func=ast.Attribute(value=inner, attr="view" | "reshape" | "contiguous" | "flatten")):
            return _below_views(inner)
        case ast.Call(func=ast.Attribute(value=inner, attr="to"), args=[ast.Attribute(attr="device")]):
            return _below_views(inner)
    return node
