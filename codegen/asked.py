"""Under which condition the original computes a loss at all, as far as the call can say before the head runs."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from fusegen.codegen.arguments import VocabularyCall
from fusegen.codegen.labels import sources_of
from fusegen.codegen.statements import is_pure
from fusegen.codegen.values import Param


@dataclass(frozen=True, slots=True)
class Asked:
    """`labels` is a name that is None where no loss is asked for; `tests` the whole condition where it says more.

    `body` is what runs under it; the `if` itself where its branches compute different losses.
    """

    labels: str
    tests: tuple[ast.expr, ...]
    body: list[ast.stmt]


def asked(statement: ast.stmt, losses: list[VocabularyCall]) -> Asked | None:
    """When a statement computes its losses; None if that is not a condition which can be asked beforehand."""
    if not isinstance(statement, ast.If):
        return None
    if statement.orelse:
        labels = _labels_of_choice(statement)
        return Asked(labels, (), [statement]) if labels is not None else None
    given = _given(statement.test)
    if len(given) == 1 and not isinstance(statement.test, ast.BoolOp):
        return Asked(given[0], (), statement.body)
    sources = {
        value.name for loss in losses for value in sources_of(loss.found.loss.labels) if isinstance(value, Param)
    }
    labels = next((name for name in given if name in sources), None) or _root(losses[0].labels)
    if labels is None or not is_pure(statement.test):
        return None
    return Asked(labels, tuple(_conjuncts(statement.test)), statement.body)


def _conjuncts(test: ast.expr) -> list[ast.expr]:
    return test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]


def _given(test: ast.expr) -> list[str]:
    """Names that a condition shows not to be None."""
    return [
        item.left.id
        for item in _conjuncts(test)
        if isinstance(item, ast.Compare)
        and isinstance(item.left, ast.Name)
        and isinstance(item.ops[0], ast.IsNot)
        and isinstance(item.comparators[0], ast.Constant)
        and item.comparators[0].value is None
        and len(item.ops) == 1
    ]


def _labels_of_choice(statement: ast.If) -> str | None:
    """The labels of `if labels is not None and x: ... elif labels is not None: ...`, where one branch surely runs."""
    tests = [statement.test]
    while len(statement.orelse) == 1 and isinstance(statement.orelse[0], ast.If):
        statement = statement.orelse[0]
        tests.append(statement.test)
    last = _given(tests[-1])
    whole = len(last) == 1 and isinstance(tests[-1], ast.Compare) and not statement.orelse
    return last[0] if whole and all(last[0] in _given(test) for test in tests) else None


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def early_return(statement: ast.stmt) -> ast.expr | None:
    """The condition of `if only_logits: return logits`, if it can be asked beforehand."""
    match statement:
        case ast.If(test=test, body=[ast.Return()], orelse=[]) if is_pure(test):
            return test
    return None
