"""From a match to its edits: which runs of statements get a fused branch, and what stands in it.

    logits = self.lm_head(h)                    if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
    loss = None                          ->         logits = None
    if labels is not None:                          loss = causal_lm_loss(h, self.lm_head, labels, ...)
        loss = self.loss_function(...)          else: the statements on the left, as they are

An edit is made only where the statements from a head to its loss are one run of a block and nothing after them
needs the logits but the output. Everything else is a `PlanRefusal` with a code: such a site stays a match of the
scan and is not emitted.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from fusegen.codegen.arguments import STOCK_KEYWORDS, Arguments, VocabularyCall, loss_arguments, needed_operands
from fusegen.codegen.asked import Asked, asked, early_return
from fusegen.codegen.branch import Branch, Line, LossCall, PlanRefusal
from fusegen.codegen.chain import Chain
from fusegen.codegen.composite import FRESH, PROJECTION, HeadCall, head_call, kept_criterion
from fusegen.codegen.effects import Effects
from fusegen.codegen.findings import Analysis
from fusegen.codegen.fusions.linear_cross_entropy import guards_of
from fusegen.codegen.guard import Guard
from fusegen.codegen.namespace import needs_original, out_of_reach
from fusegen.codegen.operands import Point, Unwritable
from fusegen.codegen.place import Place, Way, holding, locate, overlap, targets
from fusegen.codegen.records import Site
from fusegen.codegen.statements import (
    bound_names,
    calls_in,
    function_names,
    loaded_names,
    mentioned_names,
    names_in,
    nested_functions,
    only_packed,
    only_returned,
    share_a_line,
    stores_on_an_object,
)
from fusegen.codegen.surroundings import surrounding
from fusegen.codegen.values import Binary, Call, Global, Index, Logic, Value, may_be_unbound, negate, render


@dataclass(frozen=True, slots=True)
class Edit:
    """One run of statements and its fused branch.

    `way`, `start` and `stop` say where the run stands; `asked` are the conditions under which the original
    computes a loss at all, beyond that `labels` are given; `stock` names the loss function that must be in place;
    `through` are the modules that the branch passes over, path and class; `guards` further conditions of equality.
    """

    way: Way
    start: int
    stop: int
    asked: tuple[str, ...]
    head: HeadCall
    labels: str
    stock: str | None
    through: tuple[tuple[str, str], ...]
    guards: tuple[str, ...]
    branch: tuple[Line | LossCall, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """Sorts edits as their runs stand in the function."""
        return (*(position for position, _ in self.way), self.start)


@dataclass(frozen=True, slots=True)
class Plan:
    """The edits of one function, in the order of its statements."""

    site: Site
    edits: tuple[Edit, ...]
    needs_original: bool

    @property
    def functions(self) -> set[str]:
        """What the branches need of the runtime: adapters, and `Projection` where a head is no linear."""
        calls = [line.call for edit in self.edits for line in edit.branch if isinstance(line, LossCall)]
        projections = {PROJECTION for call in calls if call.head.startswith(f"{PROJECTION}(")}
        keywords = {STOCK_KEYWORDS for call in calls if call.spread}
        return projections.union(keywords, (call.function for call in calls))


def plan(site: Site, analysis: Analysis) -> Plan | PlanRefusal:
    """The edits for a matched site, or why they are not made."""
    if share_a_line(analysis.block.node.body):
        return PlanRefusal("FG601", "several statements stand on one line", site.line)
    if (around := surrounding(analysis)) is not None:
        return around
    groups: dict[object, list[VocabularyCall]] = {}
    for found, described in zip(analysis.found, site.losses, strict=True):
        assert isinstance(found.chain, Chain)
        groups.setdefault(found.chain.outer or found.chain.head.value, []).append(VocabularyCall(found, described))
    edits: list[Edit] = []
    places: list[Place] = []
    for losses in groups.values():
        outcome = _Planner(site, analysis, losses).edit()
        if isinstance(outcome, PlanRefusal):
            return outcome
        edits.append(outcome[0])
        places.append(outcome[1])
    if overlap(places):
        return PlanRefusal("FG605", "the runs of two heads are in each other's way", site.line)
    index = analysis.reading.scope.index
    if (name := out_of_reach(index, analysis.block)) is not None:
        return PlanRefusal("FG615", f"`{name}`", analysis.block.node.lineno)
    return Plan(site, tuple(edits), needs_original(index, analysis.block))


class _Planner:
    """One head and its losses."""

    def __init__(self, site: Site, analysis: Analysis, losses: list[VocabularyCall]) -> None:
        self.analysis = analysis
        self.losses = losses
        self.function = analysis.block.node
        self.line = losses[0].node.lineno
        self.nested = nested_functions(self.function)
        self.tests = _tests(analysis)
        of_losses = [guard for loss in losses for guard in guards_of(loss.found, analysis.reading)]
        self.conditions: list[Guard] = [*analysis.uses.guards, *of_losses]
        asked_for = [*self.tests.values(), *(each.value for each in self.conditions if each.value is not None)]
        self.effects = Effects(analysis, losses, asked_for)

    def edit(self) -> tuple[Edit, Place] | PlanRefusal:
        head = head_call(self.losses[0].found, self.analysis)
        if isinstance(head, str):
            return self.refusal("FG603", head)
        place = locate(self.function.body, head.node, [loss.node for loss in self.losses])
        if place is None:
            return self.refusal("FG601", "head and loss are not statements of one run")
        names = targets(place.block[place.start], head, self.losses[0].chain)
        if names is None:
            return self.refusal("FG601", "the logits are not bound to a name of their own")
        when = asked(place.block[place.stop], self.losses)
        if when is None:
            return self.refusal("FG601", "the loss is not under a condition that can be asked before the head runs")
        try:
            return self._edit(head, place, names, when)
        except Unwritable as reason:
            return self.refusal(reason.code, str(reason))

    def refusal(self, code: str, detail: str, line: int | None = None) -> PlanRefusal:
        return PlanRefusal(code, detail, line or self.line)

    def _edit(self, head: HeadCall, place: Place, names: list[str], when: Asked) -> tuple[Edit, Place] | PlanRefusal:
        between = place.block[place.start + 1 : place.stop]
        logits, *others = names
        start = self._point(place.block[place.start])
        returns = [test for each in between if logits in loaded_names(each) and (test := early_return(each))]
        try:
            labels = self._labels(when.labels, between, place, start)
            tests = [start.text(negate(self._test(test))) for test in returns]
            tests += [start.text(self._test(test)) for test in when.tests]
        except Unwritable as reason:
            return self.refusal("FG601", f"what the loss is asked for by cannot be asked before the head: {reason}")
        through, criteria = self._passed_over(head)
        needed = [given for loss in self.losses for given in needed_operands(loss, self.analysis.reading)]
        guards = self._guards([*head.guards, *criteria, *needed], start)
        flat = when.body != [place.block[place.stop]]
        dead = self._dead(start, returns)
        branch = Branch(self.analysis, self.losses, logits, when.labels, dead, flat)
        for statement in [*between, *when.body]:
            branch.add(statement)
        if branch.refusal is not None:
            return branch.refusal
        before = [*head.before, *(f"{name} = {text}" for name, (_, text) in zip(others, head.others, strict=True))]
        lines = self._lines(branch, head, place, before, guards)
        if not isinstance(lines, PlanRefusal):
            lines = self._disturbed([place.block[place.start], *between, *when.body], place.rest) or lines
        if isinstance(lines, PlanRefusal):
            return lines
        stock = next(line.call.stock for line in lines if isinstance(line, LossCall))
        edit = Edit(place.way, place.start, place.stop, tuple(tests), head, labels, stock, through, guards, lines)
        return edit, place

    def _point(self, statement: ast.stmt, head: HeadCall | None = None) -> Point:
        rows = (self.losses[0].chain.head.value, head.projection) if head is not None else None
        return Point(statement, self.analysis, self.effects.disturbing, rows)

    def _labels(self, labels: str, between: list[ast.stmt], place: Place, start: Point) -> str:
        """The labels of a loss as they can be asked for at its head: their name, or what they are about to be."""
        if labels not in bound_names(between):
            if labels not in start.names or may_be_unbound(start.names[labels]):
                raise Unwritable(f"`{labels}` may be unbound")
            return labels
        later = self.analysis.walked.before.get(id(place.block[place.stop]), {}).get(labels)
        if later is None or may_be_unbound(later):
            raise Unwritable(f"`{labels}` may be unbound")
        return start.text(later)

    def _disturbed(self, statements: list[ast.stmt], rest: list[ast.stmt]) -> PlanRefusal | None:
        """Why a statement up to the last loss must not run before the head's product, or one in `rest` after it."""
        last = max(position for loss in self.losses if (position := holding(statements, loss.node)) is not None)
        for statement in statements[: last + 1]:
            touch = self.effects.touching(statement)
            if touch is not None:
                return self.refusal("FG609", f"a statement between head and loss {touch.what}", touch.line)
        for statement in [*statements[last + 1 :], *rest]:
            touch = self.effects.outlasting(statement)
            if touch is not None:
                return self.refusal("FG610", f"a statement after the loss {touch.what}", touch.line)
        return None

    def _lines(
        self, branch: Branch, head: HeadCall, place: Place, before: list[str], guards: tuple[str, ...]
    ) -> tuple[Line | LossCall, ...] | PlanRefusal:
        """The fused branch, after the statements `before`."""
        hidden = self._hidden(head, branch, before)
        calls: dict[int, Arguments] = {}
        for loss in self.losses:
            call = loss_arguments(loss, head, hidden, self._point(_statement_of(self.function, loss.node), head))
            if isinstance(call, str):
                return self.refusal("FG604", call)
            calls[id(loss.node)] = call
        self._check_new(
            {name for call in calls.values() for name in (call.function, PROJECTION, STOCK_KEYWORDS, "fusible")}
        )
        problem = self._unavailable(branch, head, list(calls.values()), guards)
        if problem is not None:
            return self.refusal("FG602", problem)
        for statement in (place.block[place.start], *branch.left_out):
            if (called := self.effects.lost(statement, head.node)) is not None:
                return self.refusal(
                    "FG601", f"a statement that reads the logits calls {called} as well", statement.lineno
                )
        rest = [inner for each in place.rest for inner in _alive(each, branch.dead)]
        cleared = self._cleared(branch, [*rest, *self.nested])
        if isinstance(cleared, PlanRefusal):
            return cleared
        lines = branch.lines(calls, names_in(*guards) | _loaded([*place.rest, *self.nested]))
        return _with_cleared([*map(Line, before), *lines], branch.logits if cleared else None)

    def _check_new(self, names: set[str]) -> None:
        """What the branch brings along must not have a name that the function mentions."""
        self._check_names(names, mentioned_names(self.function))

    def _check_names(self, names: set[str], known: set[str] | None = None) -> None:
        """What the branch takes from outside must not be a name of the function."""
        taken = names & (function_names(self.function) if known is None else known)
        if taken:
            raise Unwritable(f"the name `{min(taken)}` is taken")

    def _passed_over(self, head: HeadCall) -> tuple[tuple[tuple[str, str], ...], list[Value]]:
        """Modules whose calls the branch leaves out, path and class; criteria that have no path as conditions."""
        through: list[tuple[str, str]] = list(head.through)
        conditions: list[Value] = []
        for loss in self.losses:
            kept = kept_criterion(loss.found.loss, self.analysis.reading)
            if kept is None:
                continue
            place, name = kept
            if isinstance(place, Index):
                conditions.append(Binary("is", Call(Global("type"), (place,)), Global("torch.nn.CrossEntropyLoss")))
            else:
                through.append((render(place).removeprefix("self."), name))
        self._check_names({name.split(".")[0] for _, name in through})
        return tuple(dict.fromkeys(through)), list(dict.fromkeys(conditions))

    def _test(self, node: ast.expr) -> Value:
        """The value of a test of the function."""
        if node not in self.tests:
            raise Unwritable("the walk does not come to a condition")
        return self.tests[node]

    def _guards(self, first: list[Value], start: Point) -> tuple[str, ...]:
        """Conditions of equality as expressions."""
        for condition in self.conditions:
            if condition.value is None:
                raise Unwritable(f"nothing that can be asked before the head says that {condition.text}", "FG606")
        values = [*first, *(condition.value for condition in self.conditions if condition.value is not None)]
        try:
            return tuple(dict.fromkeys(map(start.text, values)))
        except Unwritable as reason:
            raise Unwritable(str(reason), "FG606") from None

    def _dead(self, start: Point, returns: list[ast.expr]) -> set[ast.expr]:
        """The tests of the function that do not hold in the branch, by what was asked for before it."""
        hold = {condition.value for condition in self.conditions} | {negate(self._test(test)) for test in returns}
        return {test for test, value in self.tests.items() if negate(value) in hold and start.can_write(value)}

    def _hidden(self, head: HeadCall, branch: Branch, before: list[str]) -> str:
        """The hidden states of the fused call; `before` may get a statement that names them."""
        hidden = head.hidden
        if any(isinstance(node, ast.NamedExpr) for node in ast.walk(ast.parse(hidden))):
            raise Unwritable("the argument of the head binds a name")
        named = (branch.rebinds_logits or not hidden.isidentifier()) if branch.needs_rows else self._moves(head, branch)
        if hidden != FRESH and named:
            self._check_new({FRESH})
            before.append(f"{FRESH} = {hidden}")
            hidden = FRESH
        return branch.choose_rows(hidden) if branch.needs_rows else hidden

    def _moves(self, head: HeadCall, branch: Branch) -> bool:
        """Whether the hidden states would be computed later than in the original, or more than once, and notice it."""
        acts = any(calls_in(text) or stores_on_an_object(text) for text in branch.kept)
        if calls_in(head.hidden):
            return len(self.losses) > 1 or bool(head.others) or acts
        return not head.hidden.isidentifier() and acts

    def _unavailable(
        self, branch: Branch, head: HeadCall, calls: list[Arguments], guards: tuple[str, ...]
    ) -> str | None:
        """What the fused call would read that the branch does not have."""
        gone = (branch.dropped | branch.tainted) - {branch.labels}
        hidden = names_in(*(call.hidden_states for call in calls), head.projection, *head.before)
        other = names_in(*guards, *(text for call in calls for name, text in call.all() if text != call.hidden_states))
        missing = (other & gone) | (hidden & (gone - {branch.logits}))
        if missing:
            return f"`{min(missing)}` is computed from the logits and needed by the loss"
        if branch.rebinds(hidden | set(branch.names.values())):
            return "the hidden states are bound again between head and loss"
        return None

    def _cleared(self, branch: Branch, rest: list[ast.stmt]) -> bool | PlanRefusal:
        """Whether the logits are None after the branch, for the output; a refusal if more than that reads them."""
        for name in sorted((branch.tainted | branch.packed) & _loaded(rest)):
            allowed = only_packed if name in branch.packed else only_returned
            if name not in branch.packed | {branch.logits} or not allowed(name, rest):
                detail = f"`{name}` is needed after the loss for more than {_use(name, rest)}"
                return self.refusal("FG602", detail, rest[0].lineno)
        return branch.logits in _loaded(rest)


def _tests(analysis: Analysis) -> dict[ast.expr, Value]:
    """The tests of all `if` statements, and the conditions that they join by `and`, with their values."""
    found: dict[ast.expr, Value] = {}
    for sink in analysis.walked.sinks:
        if sink.kind == "test" and isinstance(sink.node, ast.expr):
            found[sink.node] = sink.value
            if isinstance(sink.node, ast.BoolOp) and isinstance(sink.value, Logic):
                found |= zip(sink.node.values, sink.value.items, strict=True)
    return found


def _use(name: str, statements: list[ast.stmt]) -> str:
    """The output, or the field of it that is none for logits."""
    for node in (child for statement in statements for child in ast.walk(statement)):
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Name) and node.value.id == name and node.arg:
            return "the output" if "logits" in node.arg else f"logits: the output has it as `{node.arg}`"
    return "the output"


def _statement_of(function: ast.FunctionDef, node: ast.AST) -> ast.stmt:
    """The innermost statement that a node stands in."""
    holding_it = [each for each in ast.walk(function) if isinstance(each, ast.stmt) and holding([each], node) == 0]
    return holding_it[-1]


def _loaded(statements: list[ast.stmt]) -> set[str]:
    return {name for statement in statements for name in loaded_names(statement)}


def _with_cleared(lines: list[Line | LossCall], logits: str | None) -> tuple[Line | LossCall, ...]:
    """The branch with `logits = None`: before the loss, or at the end if hidden states have that name until then."""
    if logits is None:
        return tuple(lines)
    texts = [text for line in lines for text in _texts(line)]
    first = next(position for position, line in enumerate(lines) if isinstance(line, LossCall) or line.depth)
    if any(logits in names_in(text) for text in texts):
        return (*lines, Line(f"{logits} = None"))
    while lines[first].depth:
        first -= 1
    return (*lines[:first], Line(f"{logits} = None"), *lines[first:])


def _texts(line: Line | LossCall) -> list[str]:
    return [text for _, text in line.call.all()] if isinstance(line, LossCall) else [line.text]


def _alive(statement: ast.stmt, dead: set[ast.expr]) -> list[ast.stmt]:
    """What of a statement may run where none of the tests `dead` holds."""
    return statement.orelse if isinstance(statement, ast.If) and statement.test in dead else [statement]
