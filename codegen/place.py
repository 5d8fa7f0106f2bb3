"""Where a run of statements stands in a function: from the call of the head to the statement with the loss."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from fusegen.codegen.chain import Chain
from fusegen.codegen.composite import HeadCall
from fusegen.codegen.statements import bound_names, only_binds, share_a_line

Way = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Statements `start` to `stop` of a block; `way` leads there: position of an `if` and which of its suites.

    `rest` is all that stands after the run, in this block and in those around it.
    """

    way: Way
    block: list[ast.stmt]
    start: int
    stop: int
    rest: list[ast.stmt]


def locate(body: list[ast.stmt], head: ast.AST, losses: Sequence[ast.AST]) -> Place | None:
    """The run from a head to its losses, which stand in one later statement; None if there is none."""
    start = holding(body, head)
    stops = {holding(body, loss) for loss in losses}
    if start is None or None in stops or share_a_line(body):
        return None
    if stops == {start}:
        return _inside(body, start, head, losses)
    (stop, *others) = (stop for stop in stops if stop is not None)
    return None if others or stop < start else Place((), body, start, stop, body[stop + 1 :])


def _inside(body: list[ast.stmt], position: int, head: ast.AST, losses: Sequence[ast.AST]) -> Place | None:
    statement = body[position]
    if not isinstance(statement, ast.If) or _has_elif(statement):
        return None
    for suite, block in (("body", statement.body), ("orelse", statement.orelse)):
        found = locate(block, head, losses)
        if found is not None:
            rest = [*found.rest, *body[position + 1 :]]
            return Place(((position, suite), *found.way), found.block, found.start, found.stop, rest)
    return None


def _has_elif(statement: ast.If) -> bool:
    return len(statement.orelse) == 1 and statement.orelse[0].col_offset == statement.col_offset


def holding(statements: list[ast.stmt], node: ast.AST) -> int | None:
    """The position of the statement that a node stands in."""
    for position, statement in enumerate(statements):
        if any(child is node for child in ast.walk(statement)):
            return position
    return None


def overlap(places: Sequence[Place]) -> bool:
    """Whether two runs share a statement, or one stands inside another."""
    return any(
        one.block is other.block and one.start <= other.stop and other.start <= one.stop
        for one, other in itertools.combinations(places, 2)
    )


def targets(statement: ast.stmt, head: HeadCall, chain: Chain) -> list[str] | None:
    """What a statement binds that does nothing but bind the logits: their name first, then those of `head.others`."""
    trail = [value.node for value in chain.trail]
    match statement:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value)
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
        ):
            if not head.others and any(node is value for node in trail):
                return [name]
        case ast.Assign(targets=[ast.Tuple(elts=elements)], value=value) if value is head.node:
            bound = [element.id for element in elements if isinstance(element, ast.Name)]
            kept = [position for position, _ in head.others]
            if kept and len(bound) == len(elements) == len(kept) + 1:
                (chosen,) = set(range(len(bound))) - set(kept)
                return [bound[chosen], *(bound[position] for position in kept)]
        case ast.If() if only_binds(statement) and any(node is statement for node in trail) and not head.others:
            bound_in_branches = bound_names([statement])
            return list(bound_in_branches) if len(bound_in_branches) == 1 else None
    return None
