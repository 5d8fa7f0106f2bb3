"""The fused branch of one run of statements: which are kept, left out, or computed on hidden states instead.

    logits = self.lm_head(h)             (left out)
    steps = labels.numel()               steps = labels.numel()
    shift_logits = logits[:, :-1]        shift_hidden_states = h[:, :-1]
    loss = loss_fct(shift_logits, ...)   loss = cross_entropy_loss(shift_hidden_states, self.lm_head, ...)

Statements that read the logits (`tainted` names) are left out if they only bind names that nothing else needs.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from fusegen.codegen.arguments import Arguments, VocabularyCall, below_views
from fusegen.codegen.findings import Analysis
from fusegen.codegen.operands import Unwritable
from fusegen.codegen.rows import on_hidden_states, rows_of, with_replaced
from fusegen.codegen.statements import (
    assigned_name,
    bound_names,
    is_label_move,
    is_none_assignment,
    loaded_names,
    mentioned_names,
    names_bound,
    names_in,
    only_binds,
    packs,
    source_lines,
)


@dataclass(frozen=True, slots=True)
class PlanRefusal:
    """Why a match is not emitted yet."""

    code: str
    detail: str
    line: int


@dataclass(frozen=True, slots=True)
class Line:
    """A statement of a branch, as text without indentation; `depth` says how far it is indented."""

    text: str
    depth: int = 0


@dataclass(frozen=True, slots=True)
class LossCall:
    """`target = function(...)`, the fused call."""

    target: str
    call: Arguments
    depth: int = 0


@dataclass(slots=True)
class _Read:
    """A statement that reads the logits: left out, unless a name that it binds is needed."""

    statement: ast.stmt
    text: str | None
    depth: int
    after: bool
    rewritten: bool = False


@dataclass(slots=True)
class _Loss:
    target: str
    loss: VocabularyCall
    depth: int


@dataclass(slots=True)
class _IfRead:
    """`loss_fct = CrossEntropyLoss()`, whose arguments the fused call takes, or `loss = None`: kept if it is read."""

    name: str
    text: str
    depth: int


class Branch:
    """Sorts the statements of a run; `refusal` says what stands against it.

    `dead` are tests that do not hold in the branch; `flat` says that the loss is computed without a condition there.
    """

    def __init__(
        self,
        analysis: Analysis,
        losses: list[VocabularyCall],
        logits: str,
        labels: str,
        dead: set[ast.expr],
        flat: bool,
    ) -> None:
        self.analysis = analysis
        self.losses = {id(loss.node): loss for loss in losses}
        self.targets = {
            name
            for node in ast.walk(analysis.block.node)
            if isinstance(node, ast.Assign) and id(node.value) in self.losses and (name := assigned_name(node))
        }
        self.logits = logits
        self.labels = labels
        self.flat = flat
        self.dead = dead
        self.tainted = {logits}
        self.dropped: set[str] = set()
        self.packed: set[str] = set()
        self.items: list[Line | _Read | _Loss | _IfRead] = []
        self.refusal: PlanRefusal | None = None
        self.names: dict[str, str] = {}
        self._after = False

    def refuse(self, code: str, detail: str, statement: ast.AST) -> None:
        self.refusal = self.refusal or PlanRefusal(code, detail, getattr(statement, "lineno", 0))

    # -- sorting ---------------------------------------------------------------------------------------------

    def add(self, statement: ast.stmt, depth: int = 0) -> None:
        """The next statement of the run."""
        loss = next((self.losses[id(node)] for node in ast.walk(statement) if id(node) in self.losses), None)
        if loss is not None:
            self._add_loss(statement, loss, depth)
        elif loaded_names(statement) & self.tainted:
            self._add_reader(statement, depth)
        else:
            self._add_kept(statement, depth)

    def _add_loss(self, statement: ast.stmt, loss: VocabularyCall, depth: int) -> None:
        target = assigned_name(statement)
        if isinstance(statement, ast.If) and not self.flat and depth == 0:
            self._add_choice(statement, "if", depth)
        elif isinstance(statement, ast.If):
            self.refuse("FG601", "the loss is under a further condition", statement)
        elif isinstance(statement, ast.Assign) and statement.value is loss.node and target is not None:
            self.items.append(_Loss(target, loss, depth))
            self._after = True
        else:
            self.refuse("FG601", "the loss is not assigned to a name by a statement of its own", statement)

    def _add_choice(self, statement: ast.If, word: str, depth: int) -> None:
        """`if a: loss = ... elif b: loss = ...`, kept as it is around the calls."""
        if loaded_names(statement.test) & self.tainted:
            self.refuse("FG601", "the condition around the loss reads the logits", statement)
        if not any(id(node) in self.losses for inner in statement.body for node in ast.walk(inner)):
            self.refuse("FG601", "one of the conditions around the losses has none", statement)
        self.items.append(Line(f"{word} {ast.unparse(statement.test)}:", depth))
        for inner in statement.body:
            self.add(inner, depth + 1)
        self._after = False
        match statement.orelse:
            case [ast.If() as other] if other.col_offset == statement.col_offset:
                self._add_choice(other, "elif", depth)
            case [_, *_]:
                self.refuse("FG601", "the loss is under a condition with an `else`", statement)

    def _add_reader(self, statement: ast.stmt, depth: int) -> None:
        if isinstance(statement, ast.If) and not statement.orelse and statement.test in self.dead:
            return
        if is_label_move(statement, self.labels):
            self.dropped.add(self.labels)
            return
        if packs(statement, self.logits):
            self._add_packed(statement, depth)
            return
        if not only_binds(statement):
            code = "FG602" if self._after else "FG601"
            self.refuse(code, "a statement between head and loss does more than bind names", statement)
        bound = bound_names([statement])
        self.tainted |= bound
        self.dropped |= bound
        self.items.append(_Read(statement, self._text(statement), depth, self._after))

    def _add_packed(self, statement: ast.stmt, depth: int) -> None:
        """`outputs = (logits,) + outputs`: the tuple holds None there."""
        if not self.packed:
            self.items.append(Line(f"{self.logits} = None", depth))
        self.packed |= bound_names([statement])
        self._add_kept(statement, depth)

    def _add_kept(self, statement: ast.stmt, depth: int) -> None:
        text = self._text(statement)
        name = assigned_name(statement)
        if text is None:
            self.refuse("FG601", "a statement beside the loss cannot be moved as it is", statement)
        elif name is not None and (_is_criterion(statement) or self._is_cleared(statement)):
            self.items.append(_IfRead(name, text, depth))
        else:
            self.items.append(Line(text, depth))

    def _is_cleared(self, statement: ast.stmt) -> bool:
        """`loss = None` before a loss that surely follows."""
        before = self.flat and not self._after
        return before and any(is_none_assignment(statement, name) for name in self.targets)

    def _text(self, statement: ast.stmt) -> str | None:
        return source_lines(statement, self.analysis.block.text, self.analysis.block.line)

    # -- what is computed on hidden states -------------------------------------------------------------------

    @property
    def needs_rows(self) -> bool:
        """Whether the branch computes something on hidden states besides the loss."""
        return any(loss.chooses_rows for loss in self.losses.values()) or any(
            bound_names([item.statement]) & (self.targets if item.after else self._needed_names())
            for item in self._reads()
        )

    @property
    def rebinds_logits(self) -> bool:
        """Whether the rows are chosen under the name that the logits have."""
        return any(self.logits in bound_names([item.statement]) and self._selects(item) for item in self._reads())

    def choose_rows(self, hidden: str) -> str:
        """Writes what the losses need of the statements that read the logits on `hidden`, which is a name.

        Returns the hidden states of the loss. Raises `Unwritable`.
        """
        self.names = {self.logits: hidden}
        taken = mentioned_names(self.analysis.block.node) | {hidden}
        needed = self._needed_names()
        for item in reversed(self._reads()):
            bound = bound_names([item.statement])
            wanted = self.targets if item.after else needed
            item.rewritten = self._selects(item) or (bool(bound & wanted) and _viewed(item.statement) is None)
            if item.rewritten:
                needed |= loaded_names(item.statement) & self.tainted - {self.logits}
        for item in self._reads():
            if item.rewritten:
                self._rewrite(item, taken)
        self._check_every_choice()
        chosen = {self._rows(loss) for loss in self.losses.values()}
        if len(chosen) > 1:
            raise Unwritable("two losses choose different rows")
        (rows,) = chosen
        return rows

    def _rewrite(self, item: _Read, taken: set[str]) -> None:
        if item.text is None:
            raise Unwritable("a statement that chooses rows cannot be moved as it is")
        item.text = on_hidden_states(item.text, self.names, taken)
        restored = bound_names([item.statement]) - self.names.keys()
        self.tainted -= restored
        self.dropped -= restored
        unknown = names_in(item.text) & self.tainted - set(self.names.values())
        if unknown:
            raise Unwritable(f"`{min(unknown)}` is computed from the logits and needed to choose rows")

    def _reads(self) -> list[_Read]:
        return [item for item in self.items if isinstance(item, _Read)]

    def _selects(self, item: _Read) -> bool:
        """Whether a statement holds a choice of rows that is on the way from the head to a loss."""
        choices = {id(node) for loss in self.losses.values() for node in loss.choices}
        return any(id(node) in choices for node in ast.walk(item.statement))

    def _check_every_choice(self) -> None:
        """No choice of rows is lost: each stands in a statement that is kept, or in the call of the loss."""
        kept = [item.statement for item in self._reads() if item.rewritten]
        for loss in self.losses.values():
            there = {id(node) for each in [*kept, loss.node] for node in ast.walk(each)}
            if any(id(node) not in there for node in loss.choices):
                raise Unwritable("rows are chosen where the branch cannot follow")

    def _needed_names(self) -> set[str]:
        """Names bound by statements that read the logits which the losses take as labels."""
        return {name for loss in self.losses.values() for name in loaded_names(loss.labels)} & self.tainted - {
            self.logits
        }

    def _rows(self, loss: VocabularyCall) -> str:
        """The hidden states of a loss as text."""
        if not loss.chooses_rows:
            return self.names[self.logits]
        logits = self._below_views(loss.logits)
        text = ast.unparse(logits)
        read = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name) and node.id in self.names]
        root = rows_of(logits)
        if root is None or [node.id for node in read] != [root.id]:
            raise Unwritable(f"`{text[:60]}` is no choice of rows that can be written down")
        return with_replaced(text, [(read[0], self.names[root.id])])

    def _below_views(self, logits: ast.expr) -> ast.expr:
        """What the logits of a loss are a view of, where statements right before it made the view."""
        for item in reversed([each for each in self._reads() if not each.after]):
            if isinstance(logits, ast.Name) and logits.id in bound_names([item.statement]):
                viewed = _viewed(item.statement)
                if viewed is None:
                    break
                logits = viewed
        return logits

    # -- the result ------------------------------------------------------------------------------------------

    @property
    def kept(self) -> list[str]:
        """The statements that are kept before the branch reads the hidden states for the last time."""
        last = max(
            position
            for position, item in enumerate(self.items)
            if isinstance(item, _Loss) or (isinstance(item, _Read) and item.rewritten)
        )
        return [item.text for item in self.items[:last] if isinstance(item, Line)]

    @property
    def left_out(self) -> list[ast.stmt]:
        """The statements that read the logits and have no place in the branch."""
        return [item.statement for item in self._reads() if not item.rewritten]

    def rebinds(self, names: set[str]) -> bool:
        """Whether a kept statement binds one of these names before the last time that the branch reads it."""
        return any(names_bound(text) & names for text in self.kept)

    def lines(self, calls: dict[int, Arguments], needed: set[str]) -> tuple[Line | LossCall, ...]:
        """The branch in order; `needed` are the names that are read elsewhere."""
        written: list[Line | LossCall] = []
        read = set(needed)
        for item in reversed(self.items):
            match item:
                case _Loss(target, loss, depth):
                    arguments = calls[id(loss.node)]
                    read -= {target} if self.flat else set()
                    read |= names_in(*(text for _, text in arguments.all()))
                    written.append(LossCall(target, arguments, depth))
                case _Read(text=str(text), rewritten=True, depth=depth) | Line(text, depth):
                    if _reads_an_attribute(text) and not names_bound(text) & read:
                        continue
                    read |= names_in(text)
                    written.append(Line(text, depth))
                case _IfRead(name, text, depth) if name in read:
                    written.append(Line(text, depth))
        return tuple(reversed(written))


def _viewed(statement: ast.stmt) -> ast.expr | None:
    """`logits` of `flat_logits = logits.view(-1, vocab_size)`: the fused call flattens by itself."""
    match statement:
        case ast.Assign(targets=[ast.Name()], value=ast.Call(func=ast.Attribute(attr="view" | "reshape"), args=[_, _])):
            return below_views(statement.value)
    return None


def _reads_an_attribute(text: str) -> bool:
    """`cap = self.config.cap`: left out where nothing reads it any more."""
    match ast.parse(text).body if not text.endswith(":") else []:
        case [ast.Assign(targets=[ast.Name()], value=ast.Attribute())]:
            return True
    return False


def _is_criterion(statement: ast.stmt) -> bool:
    match statement:
        case ast.Assign(value=ast.Call(func=ast.Name(id="CrossEntropyLoss") | ast.Attribute(attr="CrossEntropyLoss"))):
            return True
    return False
