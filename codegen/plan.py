"""From a match to an edit: which run of statements is replaced, and by which call.

    logits = self.lm_head(h)                    if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
    loss = None                          ->         logits = None
    if labels is not None:                          loss = causal_lm_loss(h, self.lm_head, labels, ...)
        loss = self.loss_function(...)          else: the statements on the left, as they are

A plan is made only where the statements from head to loss are one run in the body of the function and
nothing after them needs the logits but the output. Everything else is a `PlanRefusal` with a code: such a
site stays a match of the scan and is not emitted.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from fusegen.codegen.arguments import Arguments, loss_arguments
from fusegen.codegen.chain import Chain
from fusegen.codegen.findings import Analysis, Found
from fusegen.codegen.records import Site
from fusegen.codegen.statements import (
    Run,
    bound_names,
    is_label_move,
    is_none_assignment,
    loaded_names,
    only_binds,
    only_returned,
    share_a_line,
    source_lines,
)
from fusegen.codegen.values import Attr, Call, Self, Value


@dataclass(frozen=True, slots=True)
class PlanRefusal:
    """Why a match is not emitted yet."""

    code: str
    detail: str
    line: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The edit of one function: statements `start` to `stop` of its body get a branch before them.

    `guards` are further conditions of the fused branch; `kept` statements of the run that do not need the
    logits, as text; `cleared` the names that are None where no logits are computed.
    """

    site: Site
    start: int
    stop: int
    labels: str
    guards: tuple[str, ...]
    kept: tuple[str, ...]
    cleared: tuple[str, ...]
    loss: str
    call: Arguments
    after: tuple[str, ...]


def plan(site: Site, analysis: Analysis) -> Plan | PlanRefusal:
    """The edit for a matched site, or why it is not made."""
    simple = _simple_shape(site, analysis)
    if isinstance(simple, PlanRefusal):
        return simple
    found, head = simple
    run = _run(analysis, found, head)
    if isinstance(run, PlanRefusal):
        return run
    arguments = loss_arguments(site, found, head, run.stable)
    if isinstance(arguments, str):
        return PlanRefusal("FG604", arguments, site.line)
    needed = {name for _, text in arguments.all() for name in loaded_names(ast.parse(text, mode="eval"))}
    needed |= {name for guard in arguments.guards for name in loaded_names(ast.parse(guard, mode="eval"))}
    if needed & (run.dropped - {run.labels}):
        return PlanRefusal(
            "FG602", f"`{min(needed & run.dropped)}` is computed from the logits and needed by the loss", site.line
        )
    kept = _needed_only(run, needed)
    rebound = {name for text in kept for name in bound_names(ast.parse(text).body)}
    if rebound & loaded_names(ast.parse(arguments.hidden_states, mode="eval")):
        return PlanRefusal("FG602", "the hidden states are bound again between head and loss", site.line)
    return Plan(
        site=site,
        start=run.start,
        stop=run.stop,
        labels=run.labels,
        guards=arguments.guards,
        kept=kept,
        cleared=run.cleared,
        loss=run.loss,
        call=arguments,
        after=run.after,
    )


def _needed_only(run: Run, needed: set[str]) -> tuple[str, ...]:
    """The kept statements without `name = self.config.x` of which nothing is left that reads it."""
    kept: list[str] = []
    read = needed | run.later | {name for text in run.after for name in loaded_names(ast.parse(text))}
    for text in reversed(run.kept):
        statement = ast.parse(text).body[0]
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute()) if name not in read:
                continue
        read |= loaded_names(statement)
        kept.insert(0, text)
    return tuple(kept)


def _simple_shape(site: Site, analysis: Analysis) -> tuple[Found, Call] | PlanRefusal:
    """The one loss and the plain head that a first plan can handle."""
    if len(analysis.found) != 1:
        return PlanRefusal("FG605", f"{len(analysis.found)} losses over a vocabulary in one function", site.line)
    found = analysis.found[0]
    chain = found.chain
    head = getattr(getattr(chain, "head", None), "value", None)
    if getattr(chain, "outer", None) is not None or not isinstance(head, Call) or not _is_module_path(head.func):
        return PlanRefusal("FG603", "the head is a module with more than one linear in it", site.line)
    if analysis.block.name != "forward" or any(
        mark in analysis.block.text for mark in ("super()", "__class__", "self.__")
    ):
        return PlanRefusal("FG606", "the text of the function needs the class that it stands in", analysis.block.line)
    return found, head


def _is_module_path(place: Value) -> bool:
    return isinstance(place, Attr) and (isinstance(place.base, Self) or _is_module_path(place.base))


def _run(analysis: Analysis, found: Found, head: Call) -> Run | PlanRefusal:
    """The statements from the head to the loss, told apart into what is dropped, kept and cleared."""
    body = analysis.block.node.body
    call = found.record.call.node
    start, stop = _holding(body, head.node), _holding(body, call)
    line = getattr(call, "lineno", 0)
    if start is None or stop is None or stop <= start or not _assigns_logits(body[start], found):
        return PlanRefusal("FG601", "head and loss are not statements of one run in the body", line)
    if share_a_line(body):
        return PlanRefusal("FG601", "several statements stand on one line", line)
    guarded = _guarded_loss(body[stop], call)
    if isinstance(guarded, PlanRefusal):
        return guarded
    between = body[start + 1 : stop]
    if guarded.labels in bound_names(between):
        return PlanRefusal("FG601", "the labels are bound again between head and loss", line)
    logits = frozenset(bound_names([body[start]]))
    sorted_out = _sort_out([*between, *guarded.before], guarded.after, set(logits), guarded, analysis)
    if isinstance(sorted_out, PlanRefusal):
        return sorted_out
    rest = body[stop + 1 :]
    later = frozenset(name for statement in rest for name in loaded_names(statement))
    cleared = sorted(sorted_out.tainted & later)
    for name in cleared:
        if name not in logits or not only_returned(name, rest):
            return PlanRefusal("FG602", f"`{name}` is needed after the loss for more than the output", rest[0].lineno)
    return Run(
        start=start,
        stop=stop,
        labels=guarded.labels,
        loss=guarded.loss,
        kept=sorted_out.kept,
        after=sorted_out.after,
        cleared=tuple(cleared),
        later=later,
        dropped=sorted_out.dropped | sorted_out.tainted,
        stable=_stable_parameters(analysis),
    )


@dataclass(frozen=True, slots=True)
class _Guarded:
    """`if labels is not None:` with the statements before and after the one that binds the loss."""

    labels: str
    loss: str
    before: list[ast.stmt]
    after: list[ast.stmt]


def _guarded_loss(statement: ast.stmt, call: ast.AST | None) -> _Guarded | PlanRefusal:
    match statement:
        case ast.If(
            test=ast.Compare(left=ast.Name(id=labels), ops=[ast.IsNot()], comparators=[ast.Constant(value=None)]),
            body=body,
            orelse=[],
        ):
            position = _holding(body, call)
        case _:
            detail = "the loss is not under a plain `if labels is not None:`"
            return PlanRefusal("FG601", detail, statement.lineno)
    match body[position] if position is not None else None:
        case ast.Assign(targets=[ast.Name(id=loss)], value=value) if value is call and position is not None:
            return _Guarded(labels, loss, body[:position], body[position + 1 :])
    return PlanRefusal("FG601", "the loss is not assigned to a name by a statement of its own", statement.lineno)


@dataclass(frozen=True, slots=True)
class _SortedOut:
    """What becomes of the statements of a run: `kept` before the fused call, `after` it, names of the others."""

    kept: tuple[str, ...]
    after: tuple[str, ...]
    dropped: frozenset[str]
    tainted: frozenset[str]


def _sort_out(
    before: list[ast.stmt], after: list[ast.stmt], tainted: set[str], guarded: _Guarded, analysis: Analysis
) -> _SortedOut | PlanRefusal:
    """Statements that read the logits (`tainted` names) are left out, the others stay, in order."""
    kept: list[str] = []
    kept_after: list[str] = []
    dropped: set[str] = set()
    for statement, place in [*((each, kept) for each in before), *((each, kept_after) for each in after)]:
        if loaded_names(statement) & tainted:
            if not only_binds(statement):
                detail = "a statement between head and loss does more than bind names"
                return PlanRefusal("FG601" if place is kept else "FG602", detail, statement.lineno)
            if not is_label_move(statement, guarded.labels):
                tainted |= bound_names([statement])
            dropped |= bound_names([statement])
        elif not is_none_assignment(statement, guarded.loss) and not _is_criterion(statement):
            lines = source_lines(statement, analysis.block.text, analysis.block.line)
            if lines is None:
                return PlanRefusal("FG601", "a statement beside the loss cannot be moved as it is", statement.lineno)
            place.append(lines)
    return _SortedOut(tuple(kept), tuple(kept_after), frozenset(dropped), frozenset(tainted))


def _assigns_logits(statement: ast.stmt, found: Found) -> bool:
    """Whether a statement binds a name to a value on the way from the head to the loss, and to nothing else."""
    match statement:
        case ast.Assign(targets=[ast.Name()], value=value) | ast.AnnAssign(target=ast.Name(), value=value):
            return isinstance(found.chain, Chain) and any(each.node is value for each in found.chain.trail)
    return False


def _holding(statements: list[ast.stmt], node: ast.AST | None) -> int | None:
    """The position of the statement that a node stands in."""
    for position, statement in enumerate(statements):
        if any(child is node for child in ast.walk(statement)):
            return position
    return None


def _is_criterion(statement: ast.stmt) -> bool:
    """`loss_fct = CrossEntropyLoss()`: the fused call takes its arguments."""
    match statement:
        case ast.Assign(
            targets=[ast.Name()],
            value=ast.Call(func=ast.Name(id="CrossEntropyLoss") | ast.Attribute(attr="CrossEntropyLoss")),
        ):
            return True
    return False


def _stable_parameters(analysis: Analysis) -> frozenset[str]:
    """Parameters that the function never binds again."""
    arguments = analysis.block.node.args
    names = {argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]}
    return frozenset(names - bound_names(analysis.block.node.body))
