"""The fused call of a plan: which adapter, and the text of every argument.

The order of the chain must be the kernel's own (cast, bias, scale, divisor, soft cap, vocabulary slice), each
at most once: the kernel computes them in that order and no other.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from fusegen.codegen.chain import Chain
from fusegen.codegen.composite import HeadCall
from fusegen.codegen.findings import Found
from fusegen.codegen.logit_ops.step import Step
from fusegen.codegen.losses import READ_BY_STOCK_LOSSES
from fusegen.codegen.members import Plain, Tensor, is_config
from fusegen.codegen.operands import Point, Unwritable
from fusegen.codegen.reading import Reading
from fusegen.codegen.records import VocabularyLoss
from fusegen.codegen.values import (
    NONE,
    Attr,
    Binary,
    Call,
    Const,
    Global,
    Index,
    Logic,
    Param,
    Select,
    Value,
    is_none,
    negate,
)
from fusegen.codegen.vocabulary import own_width

STOCK_KEYWORDS = "stock_keywords"
"""The function of the runtime through which a caller's keywords reach an adapter: only those that its loss reads."""

_ADAPTERS = {"causal": "causal_lm_loss", "masked": "masked_lm_loss", "cross_entropy": "cross_entropy_loss"}
_STOCK = {"causal": "ForCausalLMLoss", "masked": "ForMaskedLMLoss", "cross_entropy": None}
_ORDER = ("logits_dtype", "vocab_bias", "scale", "divisor", "softcap", "valid_vocab", "loss_dtype")
_NEEDS_A_NUMBER = frozenset(("scale", "soft_cap", "vocab_slice"))
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

    def all(self) -> list[tuple[str | None, str]]:
        """Every argument with its keyword, None for positional ones."""
        positional = [(None, self.hidden_states), (None, self.head), (None, self.labels)]
        return [*positional, *self.keywords, *((("**", self.spread),) if self.spread else ())]


@dataclass(frozen=True, slots=True)
class VocabularyCall:
    """A loss call of a match, and how the scan described it."""

    found: Found
    described: VocabularyLoss

    @property
    def chain(self) -> Chain:
        assert isinstance(self.found.chain, Chain)
        return self.found.chain

    @property
    def node(self) -> ast.Call:
        node = self.found.record.call.node
        assert isinstance(node, ast.Call)
        return node

    @property
    def logits(self) -> ast.expr:
        """The logits as the call spells them, without the views on the way to one row per label."""
        return below_views(self._argument(0, "logits", "input"))

    @property
    def labels(self) -> ast.expr:
        """The labels as the call spells them, without the views and moves that the fused call does by itself."""
        given = {keyword.arg: keyword.value for keyword in self.node.keywords}
        return below_views(given.get("shift_labels") or self._argument(1, "labels", "target"))

    @property
    def choices(self) -> list[ast.AST | None]:
        """The places where rows are chosen after the head."""
        return [step.node for step in self.chain.steps if step.op == "token_select"]

    @property
    def chooses_rows(self) -> bool:
        return bool(self.choices)

    def _argument(self, position: int, *names: str) -> ast.expr:
        given = {keyword.arg: keyword.value for keyword in self.node.keywords}
        return next((given[name] for name in names if name in given), None) or self.node.args[position]


def below_views(node: ast.expr) -> ast.expr:
    """`labels` of `labels.contiguous().view(-1)`: the fused call flattens and moves by itself; other views stay."""
    match node:
        case ast.Call(func=ast.Attribute(value=inner, attr="contiguous" | "flatten"), args=[], keywords=[]):
            return below_views(inner)
        case ast.Call(func=ast.Attribute(value=inner, attr="view" | "reshape"), args=[first, *others], keywords=[]):
            if others or isinstance(first, ast.Tuple) or ast.unparse(first) == "-1":
                return below_views(inner)
        case ast.Call(func=ast.Attribute(value=inner, attr="to"), args=[ast.Attribute(attr="device")], keywords=[]):
            return below_views(inner)
    return node


def loss_arguments(loss: VocabularyCall, head: HeadCall, hidden: str, point: Point) -> Arguments | str:
    """The fused call of a loss on the hidden states `hidden`, or a sentence on why it cannot be written.

    `point` is that before the statement of the loss.
    """
    try:
        return _arguments(loss, head, hidden, point)
    except Unwritable as reason:
        return str(reason)


def _arguments(loss: VocabularyCall, head: HeadCall, hidden: str, point: Point) -> Arguments:
    kind = loss.found.loss.kind
    transforms = _transforms(loss, head, point)
    keywords, labels, spread = _criterion(loss, point) if kind == "cross_entropy" else _stock(loss)
    return Arguments(
        function=_ADAPTERS[kind],
        stock=_STOCK[kind],
        hidden_states=hidden,
        head=head.projection,
        labels=labels,
        keywords=(*keywords, *transforms),
        spread=spread,
    )


# -- what stands between head and loss -----------------------------------------------------------------------


def _transforms(loss: VocabularyCall, head: HeadCall, point: Point) -> list[tuple[str, str]]:
    steps = [step for step in reversed(loss.chain.steps) if step.op not in ("", "token_select")]
    named = [_transform(step, position, len(steps), loss, head, point) for position, step in enumerate(steps)]
    kept = [pair for pair in named if pair is not None]
    places = [_ORDER.index(name) for name, _ in kept]
    if places != sorted(set(places)):
        raise Unwritable(
            f"the operations {', '.join(step.op for step in steps)} are in another order than the kernel's"
        )
    return kept


def _transform(
    step: Step, position: int, count: int, loss: VocabularyCall, head: HeadCall, point: Point
) -> tuple[str, str] | None:
    name, operand = step.arguments[0]
    match step.op:
        case "cast" if position == count - 1 and loss.found.loss.kind != "cross_entropy":
            if operand == Global("torch.float32"):
                return None  # the stock loss computes in float32 by itself
            raise Unwritable("the logits are cast to another dtype than float32 before the loss")
        case "cast":
            keyword = "loss_dtype" if position == count - 1 else "logits_dtype"
            if operand != Global("torch.float32") or (keyword == "logits_dtype" and position):
                raise Unwritable("a cast that is not the first or the last operation, or not to float32")
        case "bias":
            keyword, operand = "vocab_bias", _without_move(operand)
        case "scale":
            keyword = "scale" if name == "multiply" else "divisor"
        case "soft_cap":
            keyword = "softcap"
        case "vocab_slice":
            keyword = "valid_vocab"
        case _:
            raise Unwritable(f"the fused call has no keyword for {step.op}")
    written = _written(operand, point, f"an operand of {step.op}")
    if step.when is not None and step.when != Binary("is not", operand, Const(None)):
        written = ast.IfExp(_written(step.when, point, f"the condition of {step.op}"), written, ast.Constant(None))
    return keyword, ast.unparse(written)


def needed_operands(loss: VocabularyCall, reading: Reading) -> list[Value]:
    """Conditions that no operand is None where the original computes with it: the adapters read None as no operation.

    Arithmetic raises by itself where a part of it is None.
    """
    conditions: list[Value] = []
    for step in loss.chain.steps:
        if step.op not in _NEEDS_A_NUMBER:
            continue
        _, operand = step.arguments[0]
        if _may_be_none(operand, reading) and not _says_given(step.when, operand):
            given = Binary("is not", operand, NONE)
            conditions.append(given if step.when is None else Logic("or", (negate(step.when), given)))
    return conditions


def _may_be_none(operand: Value, reading: Reading) -> bool:
    match operand:
        case Attr() if not is_config(operand.base):
            members = reading.scope.at(reading.owner or "", operand)
            return not members or any(
                not isinstance(member, Tensor)
                and (not isinstance(member, Plain) or _may_be_none(member.value, reading))
                for member in members
            )
        case Attr() | Param() | Index() | Call(Global("getattr")):
            return True
        case Select(_, then, other):
            return _may_be_none(then, reading) or _may_be_none(other, reading)
        case Logic(_, items):
            return any(_may_be_none(item, reading) for item in items)
    return is_none(operand)


def _says_given(condition: Value | None, operand: Value) -> bool:
    """Whether a condition holds for no operand that is None."""
    match condition:
        case Logic("and", items):
            return any(_says_given(item, operand) for item in items)
        case Binary("is not", left, right):
            return left == operand and is_none(right)
        case Binary(">" | ">=" | "<" | "<=", left, right):
            return operand in (left, right)  # raises a TypeError by itself
    return condition == operand


def _written(value: Value, point: Point, what: str) -> ast.expr:
    try:
        return point.expression(value)
    except Unwritable as reason:
        raise Unwritable(f"{what} cannot be written down: {reason}") from None


def _without_move(operand: Value) -> Value:
    match operand:
        case Call(Attr(inner, "to"), (Attr(_, "device"),), ()):
            return inner
    return operand


# -- what the loss is called with ----------------------------------------------------------------------------


def _stock(loss: VocabularyCall) -> tuple[list[tuple[str, str]], str, str | None]:
    node, width = loss.node, loss.found.loss.vocab_size
    given: list[tuple[str | None, str]] = [
        *zip(
            ("logits", "labels", "vocab_size", "num_items_in_batch", "ignore_index"),
            map(ast.unparse, node.args),
            strict=False,
        ),
        *((keyword.arg, ast.unparse(keyword.value)) for keyword in node.keywords),
    ]
    own = width is not None and own_width(width)
    keywords: list[tuple[str, str]] = [
        (name, "None" if name == "vocab_size" and own else text)
        for name, text in given
        if name is not None and name in READ_BY_STOCK_LOSSES[loss.found.loss.kind]
    ]
    spreads = [text for name, text in given if name is None]
    if len(spreads) > 1:
        raise Unwritable("the loss is called with several `**` arguments")
    labels = next((text for name, text in given if name == "labels"), "None")
    return keywords, labels, spreads[0] if spreads else None


def _criterion(loss: VocabularyCall, point: Point) -> tuple[list[tuple[str, str]], str, str | None]:
    given = loss.found.loss.keywords
    unknown = [name for name, _ in given if name not in _CRITERION]
    if unknown:
        raise Unwritable(f"`{unknown[0]}` of the criterion is not handed on")
    keywords = []
    for name, value in given:
        keywords.append((name, ast.unparse(_written(value, point, f"`{name}` of the criterion"))))
    widths = [step.width for step in loss.chain.steps if step.width is not None]
    if widths and not own_width(widths[0]):
        width = _written(widths[0], point, "the width that the loss views its logits as")
        keywords.insert(0, ("vocab_size", ast.unparse(width)))
    return keywords, ast.unparse(loss.labels), None
