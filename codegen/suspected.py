"""Calls that may be a loss over a vocabulary and are not read as one: a function must not be passed over for them.

self.compute_loss(logits, labels)                                 what computes it is not known
logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1))           written by hand
"""

from __future__ import annotations

import ast
import re

from fusegen.codegen.bindings import CallRecord, Trace
from fusegen.codegen.chain import Chain, peel
from fusegen.codegen.choosing import NO_LOSS
from fusegen.codegen.findings import Analysis, Found
from fusegen.codegen.labels import are_labels, may_be_labels
from fusegen.codegen.logit_ops.step import Refusal
from fusegen.codegen.losses import names_a_loss
from fusegen.codegen.reading import Reading
from fusegen.codegen.storage import is_output_class
from fusegen.codegen.values import Attr, Call, Global, Value, describe
from fusegen.codegen.vocabulary import CLASSIFIER, is_language_model, is_over_vocabulary, spelled_width

_LOSS_NAMES = re.compile(r"\bself\.loss_function$|CrossEntropyLoss$|\bcross_entropy$")


def no_loss(walked: Trace) -> str:
    """Why a function that mentions labels is no site: what is said must hold for every loss that there may be."""
    named = losses_by_name(walked)
    if named:
        return f"`{describe(named[0].func)}` is not shown to be a cross-entropy over a vocabulary"
    if any(isinstance(record.call.func, Attr) and _is_super(record.call.func.base) for record in walked.calls):
        return "labels are mentioned, and what `super()` does with them is not read here"
    return NO_LOSS


def losses_by_name(walked: Trace) -> list[Call]:
    """The calls whose name says that they compute a loss."""
    return [record.call for record in walked.calls if names_a_loss(record.call.func)]


def _is_super(value: Value) -> bool:
    return isinstance(value, Call) and value.func == Global("super")


def hidden_loss(analysis: Analysis) -> tuple[CallRecord, Refusal] | None:
    """A loss of a language model that stands where the walk does not go: a nested function, a lambda, a `match`."""
    if not is_language_model(analysis.reading) and (analysis.block.owner or "vocab" not in analysis.block.text):
        return None
    walked = {id(record.call.node) for record in analysis.walked.calls}
    for outer in ast.walk(analysis.block.node):
        if (
            isinstance(outer, ast.FunctionDef | ast.Lambda | ast.Match | ast.TryStar)
            and outer is not analysis.block.node
        ):
            for node in ast.walk(outer):
                if isinstance(node, ast.Call) and id(node) not in walked and _LOSS_NAMES.search(ast.unparse(node.func)):
                    call = Call(Global(ast.unparse(node.func)), (), node=node)
                    return CallRecord(call, (), None), Refusal(
                        "FG204", node, f"inside `{type(outer).__name__.lower()}`"
                    )
    return None


def may_be_a_loss(call: Call, reading: Reading) -> bool:
    """Whether something unknown gets what a head of a language model computes, and labels."""
    match call.func:
        case Global(path) | Call(Global(path)) if path.startswith("torch.") or is_output_class(path):
            return False
    if CLASSIFIER.search(reading.owner or ""):
        return False
    arguments = (*call.args, *(value for _, value in call.keywords))
    named = names_a_loss(call.func) or _is_alias(call.func, reading)
    if not any(may_be_labels(value, short=named) or are_labels(value) for value in arguments):
        return False
    if not (named or is_language_model(reading)) or reading.walk_inside(call) is not None:
        return False
    return any(_is_of_a_vocabulary(value, reading, named) for value in arguments if reading.has_head(value))


def _is_alias(function: Value, reading: Reading) -> bool:
    """Whether a file calls a cross-entropy so: `xe` of `xe = F.cross_entropy`."""
    return isinstance(function, Global) and function.path.lstrip(".") in reading.scope.loss_names


def is_by_hand(call: Call, reading: Reading) -> bool:
    """Whether a call takes the entry of each label from what a head of a vocabulary computes."""
    match call:
        case Call(Attr(scores, "gather"), arguments) | Call(Global("torch.gather"), (scores, *arguments)):
            labels = (*arguments, *(value for _, value in call.keywords))
            return (
                any(may_be_labels(value, short=True) for value in labels)
                and reading.has_head(scores)
                and is_language_model(reading)
            )
    return False


def _is_of_a_vocabulary(value: Value, reading: Reading, named: bool) -> bool:
    """Whether the columns of a value are a vocabulary, or may be, where a loss by its `named` gets it."""
    chain = peel(value, reading)
    return is_over_vocabulary(chain, reading) if isinstance(chain, Chain) else named and is_language_model(reading)


def is_doubtful(each: Found, reading: Reading) -> bool:
    """Nothing but the class's name says that the loss runs over a vocabulary, and its logits have no known head."""
    unknown = isinstance(each.chain, Refusal) and each.loss.kind == "cross_entropy"
    return unknown and spelled_width(each.loss.logits, reading) is None and not reading.has_head(each.loss.logits)
