"""Rewrites of a forward: some keep its meaning, some change it. Each gets a `Draft`, edits it, and says what it did.

rewrite_keep.py      renamed locals, inlined and extracted expressions, `if True`, a helper method, a walrus, ...
rewrite_change.py    an operation more or less, a name bound again, a store, an in-place edit, another keyword, ...

A mutation that does not fit the draft raises `Unfit`. Everything is drawn from `draft.random`.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LOSS_PARAMETERS = ("logits", "labels", "vocab_size")


class Unfit(Exception):
    """The mutation finds nothing to change."""


@dataclass(slots=True)
class Draft:
    """A module that is being rewritten, with the parts of the forward that mutations aim at.

    `head` and `loss` are the statements with the head's call and the loss's; names are those of the source.
    """

    module: ast.Module
    owner: ast.ClassDef
    function: ast.FunctionDef
    head: ast.stmt
    loss: ast.stmt
    names: dict[str, str]
    random: random.Random

    def suite(self, statement: ast.stmt) -> list[ast.stmt]:
        """The list of statements in which one stands."""
        for node in ast.walk(self.function):
            for field in ("body", "orelse", "finalbody"):
                found = getattr(node, field, None)
                if isinstance(found, list) and any(each is statement for each in found):
                    return found
        raise Unfit

    def statements(self) -> list[ast.stmt]:
        return [node for node in ast.walk(self.function) if isinstance(node, ast.stmt) and node is not self.function]

    def near(self) -> list[ast.stmt]:
        """Statements of the head's suite around head and loss: those that a rewrite is most likely to confuse."""
        suite = self.suite(self.head)
        start = next(i for i, each in enumerate(suite) if each is self.head)
        stop = next((i for i, each in enumerate(suite) if self.loss in ast.walk(each)), start)
        inner = [each for each in ast.walk(suite[stop]) if isinstance(each, ast.stmt)]
        return [*suite[max(0, start - 2) : stop + 2], *inner]

    def choose(self, found: list[Any]) -> Any:
        if not found:
            raise Unfit
        return self.random.choice(found)


Mutation = Callable[[Draft], str]
KEEP: dict[str, Mutation] = {}
CHANGE: dict[str, Mutation] = {}


def keeps(function: Mutation) -> Mutation:
    KEEP[function.__name__] = function
    return function


def changes(function: Mutation) -> Mutation:
    CHANGE[function.__name__] = function
    return function


def mutate(draft: Draft, names: list[tuple[str, Mutation]]) -> list[str]:
    """Apply mutations in turn; what each did."""
    return [f"{name}: {mutation(draft)}" for name, mutation in names]


def statements_of(text: str) -> list[ast.stmt]:
    return ast.parse(text).body


def expression_of(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def put(draft: Draft, old: ast.stmt, new: list[ast.stmt]) -> None:
    suite = draft.suite(old)
    position = next(i for i, each in enumerate(suite) if each is old)
    suite[position : position + 1] = new


class _Swap(ast.NodeTransformer):
    def __init__(self, pairs: dict[int, ast.expr]) -> None:
        self.pairs = pairs

    def visit(self, node: ast.AST) -> Any:
        new = self.pairs.pop(id(node), None)
        return new if new is not None else self.generic_visit(node)


def put_expression(inside: ast.AST, old: ast.expr, new: ast.expr) -> None:
    _Swap({id(old): new}).visit(inside)


def expressions_in(statement: ast.AST, kinds: Any) -> list[Any]:
    """Expressions that are read, of some kinds, but for those in nested functions and in f-strings."""
    found: list[Any] = []
    stack = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.JoinedStr) and node is not statement:
            continue
        if isinstance(node, kinds) and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            found.append(node)
        stack.extend(ast.iter_child_nodes(node))
    return found[::-1]


def assigned_name(statement: ast.stmt) -> str | None:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
    return None


def names_in(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def evaluated_here(statement: ast.stmt) -> list[ast.expr]:
    """The expressions of a statement that are evaluated where it stands, and once."""
    match statement:
        case ast.Assign(value=value) | ast.AugAssign(value=value) | ast.Expr(value=value):
            return [value]
        case ast.Return(value=value) if value is not None:
            return [value]
        case ast.If(test=test):
            return [test]
    return []


def fresh_name(draft: Draft, name: str) -> str:
    taken = names_in(draft.function) | {each.arg for each in ast.walk(draft.function) if isinstance(each, ast.arg)}
    taken |= {each.name for each in draft.owner.body if isinstance(each, ast.FunctionDef)}
    while name in taken:
        name += "_"
    return name


def local_names(draft: Draft) -> list[str]:
    parameters = {each.arg for each in ast.walk(draft.function.args) if isinstance(each, ast.arg)}
    inner = {
        n.id
        for f in ast.walk(draft.function)
        if isinstance(f, ast.Lambda | ast.FunctionDef | ast.comprehension) and f is not draft.function
        for n in ast.walk(f)
        if isinstance(n, ast.Name)
    }
    stored = {
        each.id for each in ast.walk(draft.function) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }
    return sorted(stored - parameters - inner)


def stored_attributes(draft: Draft) -> list[str]:
    return [
        ast.unparse(each)
        for each in ast.walk(draft.function)
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
    ]


def following(draft: Draft, statement: ast.stmt) -> list[ast.stmt]:
    suite = draft.suite(statement)
    position = next(i for i, each in enumerate(suite) if each is statement)
    return suite[position + 1 : position + 2]


def calls_of_loss(draft: Draft) -> list[ast.Call]:
    return [
        each
        for each in ast.walk(draft.loss)
        if isinstance(each, ast.Call) and draft.names["loss_call"] == ast.unparse(each.func)
    ]


def calls_of_head(draft: Draft) -> list[ast.Call]:
    return [
        each
        for each in ast.walk(draft.head)
        if isinstance(each, ast.Call) and draft.names["head"] == ast.unparse(each.func)
    ]


def wrap_in(draft: Draft, form: str, *, whole: bool | None = None) -> str:
    import_module(draft, "contextlib")
    suite = draft.suite(draft.head)
    start = next(i for i, each in enumerate(suite) if each is draft.head)
    stop = next((i for i, each in enumerate(suite) if draft.loss in ast.walk(each)), start)
    run = draft.random.random() < 0.3 if whole is None else whole
    if run:
        taken, place, at = suite[start : stop + 1], suite, start
    else:
        one = draft.choose(
            [
                each
                for each in draft.near()
                if not isinstance(each, ast.Return | ast.FunctionDef | ast.Break | ast.Continue)
            ]
        )
        place = draft.suite(one)
        at = next(i for i, each in enumerate(place) if each is one)
        taken = [one]
    if any(isinstance(n, ast.Break | ast.Continue) for each in taken for n in ast.walk(each)):
        raise Unfit
    new = statements_of(form)
    for node in [n for each in new for n in ast.walk(each)]:
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list):
                for i, each in enumerate(body):
                    if isinstance(each, ast.Expr) and isinstance(each.value, ast.Name) and each.value.id == "S":
                        body[i : i + 1] = taken
                        break
    place[at : at + len(taken)] = new
    return f"{form.splitlines()[0]} around {ast.unparse(taken[0])[:50]}{' ...' if len(taken) > 1 else ''}"


def import_module(draft: Draft, name: str) -> None:
    if not any(isinstance(each, ast.Import) and each.names[0].name == name for each in draft.module.body):
        position = sum(isinstance(each, ast.ImportFrom) and each.module == "__future__" for each in draft.module.body)
        draft.module.body.insert(position, ast.Import([ast.alias(name)]))


def insert(draft: Draft, text: str, where: str | None = None) -> str:
    """A statement at the start, before the head, between, right before the loss, or after it."""
    where = where or draft.choose(["start", "before", "before", "between", "between", "inside", "after"])
    whole = filled(draft, text)
    new = statements_of(whole)
    for name in re.findall(r"\b(random|functools|operator|contextlib)\.", whole):
        import_module(draft, name)
    suite = draft.suite(draft.head)
    start = next(i for i, each in enumerate(suite) if each is draft.head)
    stop = next((i for i, each in enumerate(suite) if draft.loss in ast.walk(each)), start)
    if where == "start":
        position = 1 if ast.get_docstring(draft.function) else 0
        draft.function.body[position:position] = new
    elif where == "before":
        suite[start:start] = new
    elif where == "between":
        at = draft.random.randint(start + 1, max(start + 1, stop))
        suite[at:at] = new
    elif where == "inside":
        inner = draft.suite(draft.loss)
        at = next(i for i, each in enumerate(inner) if each is draft.loss)
        inner[at:at] = new
    else:
        inner = draft.choose([draft.suite(draft.loss), suite])
        at = next(i for i, each in enumerate(inner) if each is draft.loss or draft.loss in ast.walk(each)) + 1
        inner[at:at] = new
    return f"{where}: {whole}"


def filled(draft: Draft, text: str) -> str:
    names = draft.names
    operands = [each for each in names["operands"].split() if re.fullmatch(r"self(\.\w+)+", each)]
    operand = draft.choose(operands) if operands else "self.vocab_size"
    owner, _, attribute = operand.rpartition(".")
    parameters = [a.arg for a in draft.function.args.args if a.arg != "self"]
    values = {
        "l": names["logits"],
        "h": names["hidden"],
        "y": names["labels"],
        "w": names["head"],
        "loss": names["loss"],
        "o": owner,
        "a": attribute,
        "op": operand,
        "n": draft.choose(["0.5", "2.0", "3"]),
        "i": draft.choose(["0", "3", "-1"]),
        "p": draft.choose(parameters),
        "v": draft.choose([*local_names(draft), *parameters]),
        "lin": names["linear"],
        "body": names["body"],
        "out": names["outputs"],
    }
    for key, value in values.items():
        if "{" + key + "}" in text:
            if not value:
                raise Unfit
            text = text.replace("{" + key + "}", value)
    return text
