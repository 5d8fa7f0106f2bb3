"""Read a call as a cross-entropy: the stock losses behind `self.loss_function`, `CrossEntropyLoss`, `F.cross_entropy`.

    self.loss_function(logits=l, labels=y, vocab_size=n, **kwargs)   ->  Loss("causal", logits=l, labels=y, ...)
    CrossEntropyLoss(ignore_index=-100)(l.view(-1, n), y.view(-1))   ->  Loss("cross_entropy", ...)

What `self.loss_function` means depends on the class: transformers looks its name up in `LOSS_MAPPING`.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache

from fusegen.codegen.logit_ops.step import Refusal
from fusegen.codegen.members import Criterion, Plain, Scope
from fusegen.codegen.values import (
    Attr,
    Call,
    Const,
    Global,
    Index,
    Opaque,
    Select,
    Self,
    Starred,
    Value,
    describe,
    is_none,
)

# Used where the scanned tree has no readable loss/loss_utils.py: the entries of 4.56 that all releases share.
DEFAULT_MAPPING = {
    "ForCausalLM": "ForCausalLMLoss",
    "ForMaskedLM": "ForMaskedLMLoss",
    "ForQuestionAnswering": "ForQuestionAnsweringLoss",
    "ForSequenceClassification": "ForSequenceClassificationLoss",
    "ForTokenClassification": "ForTokenClassification",
    "ForSegmentation": "ForSegmentationLoss",
    "ForObjectDetection": "ForObjectDetectionLoss",
    "ForConditionalGeneration": "ForCausalLMLoss",
}

_KINDS = {"ForCausalLMLoss": "causal", "ForMaskedLMLoss": "masked"}
_STOCK_PARAMETERS = ("logits", "labels", "vocab_size", "num_items_in_batch", "ignore_index")
READ_BY_STOCK_LOSSES = {
    "causal": ("vocab_size", "num_items_in_batch", "ignore_index", "shift_labels"),
    "masked": ("vocab_size", "num_items_in_batch", "ignore_index"),
}
"""The keywords besides logits and labels that each kind of stock loss reads; it ignores every other one."""
_CRITERION_PARAMETERS = ("weight", "size_average", "ignore_index", "reduce", "reduction", "label_smoothing")
_CALL_PARAMETERS = ("input", "target")
_CROSS_ENTROPY_PARAMETERS = (*_CALL_PARAMETERS, *_CRITERION_PARAMETERS)
_NLL_PARAMETERS = _CROSS_ENTROPY_PARAMETERS[:-1]
_LITERALS: dict[str, tuple[type, ...]] = {
    "num_items_in_batch": (int, float, type(None)),
    "ignore_index": (int,),
    "label_smoothing": (int, float),
    "reduction": (str,),
}
"""The types of literals that a fused loss takes for a setting as the original does: True is no number of items."""


_LOSS_NAME = re.compile(r"loss|cross_?entropy|criterion|nll|xent|(?<![a-z])ce(?![a-z])", re.IGNORECASE)


def names_a_loss(function: Value) -> bool:
    """Whether what is called is a loss by its name, or may be one of several: `criterion`, `vocab_cross_entropy`."""
    match function:
        case Global(path):
            return _LOSS_NAME.search(path.rsplit(".", 1)[-1]) is not None
        case Attr(_, name) | Index(_, Const(str(name))):
            return _LOSS_NAME.search(name) is not None
        case Call(Global("functools.partial"), (first, *_)):
            return names_a_loss(first)
        case Call(made, _, _):
            return isinstance(made, Global) and names_a_loss(made)
        case Select(_, then, other):
            return names_a_loss(then) or names_a_loss(other)
        case Opaque(_, _, parts):
            return any(map(names_a_loss, parts))
    return False


@dataclass(frozen=True, slots=True)
class Loss:
    """A cross-entropy call. `kind` is `causal`, `masked` or `cross_entropy`; keywords lack logits, labels and size."""

    kind: str
    spelling: str
    call: Call
    logits: Value
    labels: Value
    vocab_size: Value | None
    keywords: tuple[tuple[str, Value], ...]
    preshifted: bool = False


@dataclass(frozen=True, slots=True)
class OtherLoss:
    """A loss that is not a cross-entropy over a vocabulary, and which one it is."""

    what: str


@dataclass(frozen=True, slots=True)
class LossMapping:
    """The names of the stock losses by kind of class, and where (a line, or 0) and why these are the default ones."""

    names: dict[str, str]
    line: int = 0
    problem: str = ""


@cache
def loss_mapping(source: bytes | None) -> LossMapping:
    """`LOSS_MAPPING` of a tree's loss/loss_utils.py; the default, with the reason, where it cannot be read."""
    if source is None:
        return LossMapping(DEFAULT_MAPPING)
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return LossMapping(DEFAULT_MAPPING, error.lineno or 0, f"not Python: {error.msg}")
    except ValueError as error:
        return LossMapping(DEFAULT_MAPPING, 0, str(error))
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="LOSS_MAPPING")], value=ast.Dict(keys=keys, values=values)):
                pairs = zip(keys, values, strict=True)
                return LossMapping(
                    {
                        key.value: ast.unparse(value)
                        for key, value in pairs
                        if isinstance(key, ast.Constant) and isinstance(key.value, str)
                    }
                )
    return LossMapping(DEFAULT_MAPPING, 0, "it does not write LOSS_MAPPING as one dict")


class LossReader:
    """Reads the loss calls of one file."""

    def __init__(self, scope: Scope, mapping: dict[str, str]) -> None:
        self.scope = scope
        self.mapping = mapping

    def read(self, call: Call, owner: str | None) -> Loss | OtherLoss | Refusal | None:
        """`call` as a loss of class `owner`; None if it is no loss call at all."""
        match call:
            case Call(Attr(Self(), "loss_function")):
                return self._stock(call, owner)
            case Call(Call(Global("torch.nn.CrossEntropyLoss")) as made):
                return self._cross_entropy(call, made, "CrossEntropyLoss")
            case Call(Global("torch.nn.functional.cross_entropy")):
                return self._cross_entropy(call, call, "nn.functional.cross_entropy")
            case Call(Global("torch.nn.functional.nll_loss"), (scores, *_)):
                return self._negative_log_likelihood(call, scores)
            case Call(Attr() | Index() as place) if owner is not None:
                members = self.scope.at(owner, place)
                if members and all(isinstance(member, Criterion) for member in members):
                    made = members[0].made  # type: ignore[union-attr]
                    if len(members) == 1:
                        return self._cross_entropy(call, made, describe(place))
                    return Refusal("FG302", call.node, f"`{describe(place)}` may be one of several criteria")
        return None

    def kind_of(self, owner: str | None) -> str:
        """The loss function that transformers gives a class: `PreTrainedModel.loss_type` by name."""
        if owner is not None:
            given = self.scope.members(owner).get("loss_type", ())
            if given or self.scope.is_shadowed(owner, "loss_type"):
                if len(given) == 1 and isinstance(given[0], Plain) and isinstance(given[0].value, Const):
                    return self.mapping.get(str(given[0].value.value), "ForCausalLMLoss")
                return "what loss_type says, which is not one known name"
            if owner in self.mapping:
                return self.mapping[owner]
            found = re.findall(f"({'|'.join(self.mapping)})", owner) if self.mapping else []
            if found:
                return self.mapping[found[0]]
        return self.mapping.get("ForCausalLM", "ForCausalLMLoss")

    def _stock(self, call: Call, owner: str | None) -> Loss | OtherLoss | Refusal:
        name = self.kind_of(owner)
        if owner is not None and "loss_function" in self.scope.members(owner):
            assigned = self.scope.members(owner)["loss_function"]
            if len(assigned) != 1 or not isinstance(assigned[0], Plain):
                return Refusal("FG302", call.node, "`self.loss_function` is set to something unknown in `__init__`")
            name = describe(assigned[0].value).rsplit(".", 1)[-1]
        if owner is not None and self.scope.is_shadowed(owner, "loss_function"):
            return Refusal("FG302", call.node, "the class defines a `loss_function` of its own")
        kind = _KINDS.get(name)
        if kind is None:
            return (
                OtherLoss(name)
                if name in self.mapping.values()
                else Refusal("FG302", call.node, f"`self.loss_function` is `{name}`")
            )
        if any(isinstance(argument, Starred) for argument in call.args) or len(call.args) > len(_STOCK_PARAMETERS):
            return Refusal("FG302", call.node, "the loss is called with positional arguments that cannot be told apart")
        given: dict[str, Value] = dict(zip(_STOCK_PARAMETERS, call.args, strict=False))
        repeated = next((keyword for keyword, _ in call.keywords if keyword in given), None)
        if repeated is not None:
            return Refusal("FG302", call.node, f"the loss is called with `{repeated}` twice, which raises a TypeError")
        extra: list[tuple[str, Value]] = []
        for keyword, value in call.keywords:
            if keyword is None:
                extra.append(("**", value))
            else:
                given[keyword] = value
        logits, labels, shifted = given.pop("logits", None), given.pop("labels", None), given.get("shift_labels")
        vocab_size = given.pop("vocab_size", None)
        preshifted = kind == "causal" and shifted is not None and not is_none(shifted)
        effective = shifted if preshifted else labels
        if logits is None or effective is None or is_none(effective):
            return Refusal("FG302", call.node, "the loss is called without `logits` or `labels`")
        if vocab_size is None:
            return OtherLoss("`self.loss_function` is called without `vocab_size`, so it is no stock vocabulary loss")
        known = READ_BY_STOCK_LOSSES[kind]
        foreign = next((name for name in given if name not in known and not self._is_number(given[name], owner)), None)
        if foreign is not None:
            return Refusal("FG305", call.node, f"`{foreign}` is no argument of {name}, which is meant for another loss")
        if (odd := _odd_setting(given)) is not None:
            return Refusal("FG305", call.node, odd)
        return Loss(
            kind, "self.loss_function", call, logits, effective, vocab_size, (*given.items(), *extra), preshifted
        )

    def _is_number(self, value: Value, owner: str | None) -> bool:
        """Whether a value is a literal or a number that is read and not computed: a stock loss ignores it unseen."""
        return isinstance(value, Const) or (not _calls(value) and self.scope.is_scalar(owner or "", value))

    def _cross_entropy(self, call: Call, made: Call, spelling: str) -> Loss | Refusal:
        functional = made is call
        read = _bound(call, _CROSS_ENTROPY_PARAMETERS if functional else _CALL_PARAMETERS)
        if isinstance(read, Refusal):
            return read
        if "input" not in read or "target" not in read:
            return Refusal("FG302", call.node, "the loss is called with arguments that cannot be told apart")
        logits, labels = read.pop("input"), read.pop("target")
        given = read if functional else _bound(made, _CRITERION_PARAMETERS)
        if isinstance(given, Refusal):
            return given
        unknown = next((name for name in ("size_average", "reduce") if name in given), None)
        if unknown is not None:
            return Refusal("FG305", made.node, f"`{unknown}` is no argument that the kernel takes")
        if (odd := _odd_setting(given)) is not None:
            return Refusal("FG305", made.node, odd)
        return Loss("cross_entropy", spelling, call, logits, labels, None, tuple(given.items()))

    def _negative_log_likelihood(self, call: Call, scores: Value) -> Loss | Refusal | OtherLoss:
        match scores:
            case Call(Global("torch.nn.functional.log_softmax")):
                softmax = _bound(scores, ("input", "dim", "_stacklevel", "dtype"))
            case Call(Global("torch.log_softmax")):
                softmax = _bound(scores, ("input", "dim", "dtype"))
            case Call(Attr(logits, "log_softmax")):
                softmax = _bound(scores, ("dim", "dtype"))
                softmax = softmax if isinstance(softmax, Refusal) else softmax | {"input": logits}
            case _:
                return OtherLoss("nll_loss of something that is no log_softmax")
        given = _bound(call, _NLL_PARAMETERS)
        if isinstance(softmax, Refusal) or isinstance(given, Refusal):
            return softmax if isinstance(softmax, Refusal) else given  # type: ignore[return-value]
        if "input" not in softmax or "target" not in given or softmax.get("dim") != Const(-1):
            return Refusal("FG302", call.node, "nll_loss of a log_softmax whose dimension is not -1")
        labels = given["target"]
        keywords = {name: value for name, value in given.items() if name not in ("input", "target")}
        if any(name not in ("ignore_index", "reduction", "weight") for name in keywords):
            return Refusal("FG305", call.node, "nll_loss with arguments that the kernel does not take")
        if (odd := _odd_setting(keywords)) is not None:
            return Refusal("FG305", call.node, odd)
        if "dtype" in softmax:
            keywords["dtype"] = softmax["dtype"]
        return Loss(
            "cross_entropy", "nll_loss(log_softmax)", call, softmax["input"], labels, None, tuple(keywords.items())
        )


def _bound(call: Call, parameters: tuple[str, ...]) -> dict[str, Value] | Refusal:
    """The arguments of a call by the names of its parameters; FG305 where Python would not take them, or may not."""
    if any(isinstance(argument, Starred) for argument in call.args) or any(name is None for name, _ in call.keywords):
        code = "FG305" if parameters is _CRITERION_PARAMETERS else "FG302"
        return Refusal(
            code, call.node, f"`{describe(call.func)}` gets `*` or `**` arguments, which cannot be told apart"
        )
    if len(call.args) > len(parameters):
        return Refusal("FG305", call.node, f"`{describe(call.func)}` is called with more arguments than it has")
    given: dict[str, Value] = dict(zip(parameters, call.args, strict=False))
    for name, value in call.keywords:
        if name not in parameters or name in given:
            what = f"with `{name}` twice" if name in given else f"with `{name}`, which it does not know"
            return Refusal("FG305", call.node, f"`{describe(call.func)}` is called {what}")
        given[str(name)] = value
    return given


def _odd_setting(given: dict[str, Value]) -> str | None:
    """A literal that the fused loss would not take as the original does; None if there is none."""
    for name, value in given.items():
        if isinstance(value, Const) and name in _LITERALS and type(value.value) not in _LITERALS[name]:
            return f"`{name}={describe(value)}` is not what the kernel takes"
    return None


def _calls(value: Value) -> bool:
    """Whether computing a value calls something that may do more than compute it."""
    return (isinstance(value, Call) and value.stamp is not None) or any(map(_calls, value.children()))
