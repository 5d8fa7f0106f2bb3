"""Head, what follows it, and a cross-entropy over its rows: the verdict on one function.

logits = self.lm_head(h); loss = self.loss_function(logits, labels, n)   ->   Site(match, chain=())
"""

from __future__ import annotations

import ast
from typing import Any

from fusegen.codegen.alignment import alignment
from fusegen.codegen.bindings import CallRecord, Trace
from fusegen.codegen.chain import Chain, peel
from fusegen.codegen.criteria import criterion_changed
from fusegen.codegen.delegation import delegation
from fusegen.codegen.describe import vocabulary_loss
from fusegen.codegen.findings import Analysis, Found
from fusegen.codegen.guard import Guard, guard
from fusegen.codegen.index import FunctionBlock
from fusegen.codegen.logit_ops.step import Refusal, Step
from fusegen.codegen.loss_result import taken_apart
from fusegen.codegen.losses import LossReader, OtherLoss
from fusegen.codegen.members import Scope
from fusegen.codegen.reading import Reading
from fusegen.codegen.reasons import REASONS
from fusegen.codegen.records import DELEGATED, MATCH, REJECT, Aside, Site
from fusegen.codegen.signature import parameters
from fusegen.codegen.stored import find_store
from fusegen.codegen.suspected import hidden_loss, is_by_hand, is_doubtful, losses_by_name, may_be_a_loss, no_loss
from fusegen.codegen.trace import trace
from fusegen.codegen.uses import Uses, find_uses
from fusegen.codegen.values import (
    Attr,
    Binary,
    Call,
    Global,
    Index,
    Logic,
    Select,
    Self,
    Sequence,
    Slice,
    Value,
    describe,
    unplaced,
)
from fusegen.codegen.vocabulary import (
    CLASSIFIER,
    other_vocabulary,
    own_width,
)
from fusegen.codegen.what_runs import replaced


def analyse(block: FunctionBlock, scope: Scope, losses: LossReader) -> Analysis:
    """Walk a function and read its losses. Raises `SyntaxError` if its text cannot be parsed."""
    reading = Reading(scope, block.owner)
    walked = trace(block.node, scope.resolve, stamps=scope.stamps, keeps_names=True)
    found, others, refusals = _losses(walked, reading, losses, block.name)
    chains = [each.chain for each in found if isinstance(each.chain, Chain)]
    given = {test for each in found for test in _assumed(each.record.path)}
    uses = find_uses(walked, chains, {each.record.call for each in found}, given, reading) if chains else Uses()
    return Analysis(block, walked, reading, tuple(found), tuple(others), tuple(refusals), uses)


def conclude(analysis: Analysis, file: str) -> Site | Aside | None:
    """The site that a function is, the reason why its loss is no concern of ours, or None if it has no loss at all."""
    block, walked, reading = analysis.block, analysis.walked, analysis.reading
    if analysis.found or analysis.refusals:
        return _verdict(analysis, analysis.refusals, file)
    handed = delegation(walked, reading)
    name = f"{block.owner}.{block.name}" if block.owner else block.name
    if handed is not None:
        return _delegated(block, handed, file)
    if analysis.others:
        return Aside(name, analysis.others[0][1], analysis.others[0][0])
    hidden = hidden_loss(analysis)
    if hidden is not None:
        return _verdict(analysis, (hidden,), file)
    if block.name == "forward" and ("labels" in block.text or losses_by_name(walked)):
        return Aside(name, block.line, no_loss(walked))
    return None


# -- which losses ----------------------------------------------------------------------------------------------


def _losses(
    walked: Trace, reading: Reading, losses: LossReader, function: str
) -> tuple[list[Found], list[tuple[str, int]], list[tuple[CallRecord, Refusal]]]:
    """Vocabulary losses, other losses (what, line), and loss calls that could not be read."""
    found: list[Found] = []
    others: list[tuple[str, int]] = []
    refusals: list[tuple[CallRecord, Refusal]] = []
    unknown: list[tuple[CallRecord, Refusal]] = []
    for record in _records(walked, reading):
        read = losses.read(record.call, reading.owner)
        line = getattr(record.call.node, "lineno", 0)
        if isinstance(read, Refusal):
            if CLASSIFIER.search(reading.owner or ""):
                others.append((f"the class is no language model ({read.detail})", line))
            else:
                refusals.append((record, read))
        elif isinstance(read, OtherLoss):
            others.append((read.what, line))
        elif read is not None:
            chain = peel(read.logits, reading, frozenset(_assumed(record.path)))
            why_not = other_vocabulary(read, chain, reading, function)
            if why_not:
                others.append((why_not, line))
            else:
                found.append(Found(record, read, chain))
        elif may_be_a_loss(record.call, reading):
            detail = f"`{describe(record.call.func)}` gets logits and labels"
            unknown.append((record, Refusal("FG302", record.call.node, detail)))
        elif is_by_hand(record.call, reading):
            unknown.append((record, Refusal("FG302", record.call.node, "a cross-entropy that is written by hand")))
    if not (found or others or refusals):
        return found, others, unknown
    doubtful = [each for each in found if is_doubtful(each, reading)]
    if len(doubtful) < len(found):
        # A loss of its own beside a vocabulary loss that is known: it stays as it is.
        found = [each for each in found if each not in doubtful]
        others += [
            ("nothing shows that this second loss runs over a vocabulary", getattr(each.record.call.node, "lineno", 0))
            for each in doubtful
        ]
    return found, others, refusals


def _may_stand_here(function: Value) -> bool:
    """Whether a function may be one of this file, so that it is worth asking what it gets."""
    match function:
        case Global(path):
            return path.startswith(".") or path.endswith(".apply_chunking_to_forward")
        case Attr(base, _):
            while isinstance(base, Attr):
                base = base.base
            return isinstance(base, Self)
    return False


def _records(walked: Trace, reading: Reading) -> list[CallRecord]:
    """The calls of a walk, and those of helpers of this file that get logits (`self._compute_loss(logits, labels)`)."""
    records: list[CallRecord] = []
    for record in walked.calls:
        records.append(record)
        if not _may_stand_here(record.call.func):
            continue
        if any(reading.has_head(value) for value in (*record.call.args, *(item for _, item in record.call.keywords))):
            inner = reading.walk_inside(record.call)
            if inner is not None:
                records += [
                    CallRecord(each.call, (*record.path, *each.path), record.inside or each.inside)
                    for each in inner.calls
                ]
    return records


def _assumed(path: tuple[Value, ...]) -> set[Value]:
    return {item for test in path for item in (test.items if isinstance(test, Logic) and test.op == "and" else (test,))}


# -- the verdict -----------------------------------------------------------------------------------------------


def _verdict(analysis: Analysis, refusals: tuple[tuple[CallRecord, Refusal], ...], file: str) -> Site:
    block, walked, reading, uses = analysis.block, analysis.walked, analysis.reading, analysis.uses
    found = analysis.found
    described = tuple(vocabulary_loss(each, reading) for each in found)
    refusal = (
        _first_refusal(found, refusals, uses)
        or _overwritten(found, block, walked, reading)
        or next((apart for each in found if (apart := taken_apart(each.loss, walked, block.node, reading))), None)
        or replaced(block, reading.scope)
    )
    first = next((each.record.call for each in found if isinstance(each.chain, Chain)), None)
    call = first or (found[0].record.call if found else refusals[0][0].call)
    guards = dict.fromkeys([*(each.text for one in found for each in guards_of(one, reading)), *uses.texts])
    return Site(
        **_place(block, call.node, file),
        verdict=REJECT if refusal else MATCH,
        losses=described,
        guards=tuple(guards),
        uses=tuple(uses.found),
        code=refusal.code if refusal else None,
        reason=f"{REASONS[refusal.code].summary}: {refusal.detail}" if refusal else None,
        excerpt=_excerpt(reading, getattr(refusal.node, "lineno", call.node.lineno)) if refusal else None,  # type: ignore[union-attr]
        at_line=getattr(refusal.node, "lineno", call.node.lineno) if refusal else None,  # type: ignore[union-attr]
        at_column=getattr(refusal.node, "col_offset", call.node.col_offset) if refusal else None,  # type: ignore[union-attr]
    )


def _first_refusal(
    found: tuple[Found, ...], refusals: tuple[tuple[CallRecord, Refusal], ...], uses: Uses
) -> Refusal | None:
    for each in found:
        if isinstance(each.chain, Refusal) and each.record.inside is None:
            return each.chain
        if each.record.inside is not None or isinstance(each.chain, Refusal):
            code = "FG301" if each.record.inside in ("for", "while", "comprehension") else "FG204"
            return Refusal(code, each.record.call.node, f"inside `{each.record.inside}`")
        mask = next((step for step in each.chain.steps if step.op == "mask"), None)
        if mask is not None:
            return Refusal("FG203", mask.node, f"`{describe(mask.arguments[0][1])}`")
        met = alignment(each.loss, each.chain)
        if isinstance(met, Refusal):
            return met
        shape = _wrong_shape(each)
        if shape is not None:
            return shape
        if each.loss.spelling.startswith("nll_loss") and uses.refusal is not None:
            return Refusal("FG304", uses.refusal.node, uses.refusal.detail)
    if refusals:
        return refusals[0][1]
    return uses.refusal


# What says which function `self.loss_function` is.
_SAY_THE_LOSS = frozenset(("loss_function", "loss_type", "_loss_function"))


def _overwritten(found: tuple[Found, ...], block: FunctionBlock, walked: Trace, reading: Reading) -> Refusal | None:
    """The store to an attribute that a chain reads, or to the criterion or head itself, in the same function."""
    for each in found:
        if not isinstance(each.chain, Chain):
            continue
        called = [value.func for value in (each.loss.call, each.chain.head.value) if isinstance(value, Call)]
        operands = [value for step in each.chain.steps for _, value in step.arguments]
        names = {place.name for value in (*called, *operands) for place in _places(value)}
        if each.loss.kind != "cross_entropy":
            names |= _SAY_THE_LOSS
        stored = find_store(frozenset(names), block, reading.scope.index)
        if stored is not None:
            return Refusal("FG207", stored, f"`{ast.unparse(stored)[:60]}`")
        for place, _, _ in walked.stores:
            if place.base in called:
                return Refusal("FG207", place.node, f"`{describe(place)}`")
        changed = criterion_changed(each.loss, walked)
        if changed is not None:
            return Refusal("FG208", changed, f"`{ast.unparse(changed)[:60]}`")
    return None


def _places(value: Value) -> set[Attr]:
    own: set[Attr] = {value} if isinstance(value, Attr) else set()
    return own.union(*(_places(child) for child in value.children()))


def _wrong_shape(each: Found) -> Refusal | None:
    """A cross-entropy written by hand must get one row of logits per label."""
    if each.loss.kind != "cross_entropy" or not isinstance(each.chain, Chain):
        return None
    if (unlike := _unlike_classes(each.loss.labels)) is not None:
        return Refusal("FG306", each.loss.call.node, f"`{describe(unlike)}` is no row of classes")
    shapes = [step.flat or _is_mask(step) for step in each.chain.steps if step.width is not None or _is_mask(step)]
    return (
        None
        if shapes and shapes[0]
        else Refusal("FG306", each.loss.call.node, f"`{describe(each.loss.logits)}` is not flattened")
    )


def _unlike_classes(labels: Value) -> Value | None:
    """The part of a label expression that makes it probabilities, or two-dimensional; None if nothing does."""
    match labels:
        case Call(Attr(_, "view" | "reshape"), shape) if len(shape) > 1 or (shape and isinstance(shape[0], Sequence)):
            return labels
        case Call(Attr(_, "float" | "double" | "half" | "softmax" | "log_softmax" | "sigmoid")):
            return labels
        case Call(
            Global("torch.nn.functional.one_hot" | "torch.nn.functional.softmax" | "torch.softmax" | "torch.eye")
        ):
            return labels
        case Call(Attr(_, "to"), arguments, keywords) if any(
            isinstance(target, Global) and "float" in target.path
            for target in (*arguments, *(item for _, item in keywords))
        ):
            return labels
        case Call(Attr(base)) | Index(base) if base != Self():
            return _unlike_classes(base)
        case Select(_, then, other):
            return _unlike_classes(then) or _unlike_classes(other)
    return None


def _is_mask(step: Step) -> bool:
    return step.op == "token_select" and not isinstance(step.arguments[0][1], Slice)


def guards_of(each: Found, reading: Reading) -> list[Guard]:
    """Conditions of the chain, and that the width which the loss names is the head's."""
    if not isinstance(each.chain, Chain):
        return []
    guards = [guard(condition) for condition in each.chain.guards]
    head = each.chain.head
    columns = [argument for step in each.chain.steps if step.op == "vocab_slice" for _, argument in step.arguments]
    widths = [step.width for step in each.chain.steps if step.width is not None]
    if each.loss.vocab_size is not None:
        widths.append(each.loss.vocab_size)
    for width in widths:
        if own_width(width):
            continue
        if columns and reading.expand(width) != reading.expand(columns[0]):
            guards.append(guard(Binary("==", width, columns[0])))
        elif not columns and head.rows is not None and reading.expand(width) != reading.expand(head.rows):
            rows = Binary("==", width, Attr(unplaced(head.place), "out_features")) if head.place is not None else None
            guards.append(Guard(rows, f"{describe(width)} == {head.linear}.out_features"))
    return guards


# -- labels handed on ------------------------------------------------------------------------------------------


def _delegated(block: FunctionBlock, call: Call, file: str) -> Site:
    target = describe(call.func)
    return Site(
        **_place(block, call.node, file),
        verdict=DELEGATED,
        reason=f"`{target}` gets the labels and computes the loss",
        delegated_to=target,
    )


# -- places ----------------------------------------------------------------------------------------------------


def _place(block: FunctionBlock, node: ast.AST | None, file: str) -> dict[str, Any]:
    model = file.split("/")[1] if file.count("/") >= 2 else file.removesuffix(".py")
    owner = block.owner or ""
    qualified = f"{model}.{owner}.{block.name}" if owner else f"{model}.{block.name}"
    return {
        "id": qualified,
        "model": model,
        "file": file,
        "class_name": owner,
        "method": block.name,
        "line": getattr(node, "lineno", block.line),
        "column": getattr(node, "col_offset", 0),
        "def_line": block.node.lineno,
        "parameters": parameters(block.node),
    }


def _excerpt(reading: Reading, line: int) -> str | None:
    lines = reading.scope.index.text.split("\n")
    return lines[line - 1].strip() if 0 < line <= len(lines) else None
