"""What statements load, bind and return, and their text: the questions that a plan asks of Python's syntax."""

from __future__ import annotations

import ast
import itertools
import textwrap
from functools import lru_cache


@lru_cache(maxsize=1024)
def loaded_names(node: ast.AST) -> frozenset[str]:
    """Names that are read anywhere in a node; an augmented target is read too, and so is what `del` needs bound."""
    names = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            if isinstance(child.ctx, ast.Load | ast.Del):
                names.add(child.id)
        elif isinstance(child, ast.AugAssign) and isinstance(child.target, ast.Name):
            names.add(child.target.id)
    return frozenset(names)


def names_in(*texts: str) -> set[str]:
    """Names that expressions or statements read; the header of a compound statement counts as its test."""
    return {name for text in texts for name in loaded_names(_parsed(text))}


def names_bound(text: str) -> set[str]:
    """Names that a statement, given as text, binds; the header of a compound statement binds none."""
    return bound_names(_parsed(text).body)


def calls_in(text: str) -> bool:
    """Whether an expression or a statement, given as text, calls anything."""
    return any(isinstance(node, ast.Call) for node in ast.walk(_parsed(text)))


def stores_on_an_object(text: str) -> bool:
    """Whether a statement, given as text, sets or deletes an attribute or an item."""
    return any(
        isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load)
        for node in ast.walk(_parsed(text))
    )


def _parsed(text: str) -> ast.Module:
    """A statement, or the test of `if test:` and `elif test:`, which is no statement alone."""
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.parse(text.removesuffix(":").removeprefix("el").removeprefix("if "))


def bound_names(statements: list[ast.stmt]) -> set[str]:
    """Names that statements bind, in whichever way: by assignment, import, definition, `except`, `case` or `del`."""
    return {name for statement in statements for name in _bound_names(statement)}


@lru_cache(maxsize=1024)
def _bound_names(statement: ast.stmt) -> frozenset[str]:
    return frozenset(name for child in ast.walk(statement) for name in _bound_by(child))


def _bound_by(node: ast.AST) -> list[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return [name]
        case ast.alias(name=name, asname=given):
            return [given or name.split(".")[0]]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case (
            ast.ExceptHandler(name=str(name))
            | ast.MatchAs(name=str(name))
            | ast.MatchStar(name=str(name))
            | ast.MatchMapping(rest=str(name))
        ):
            return [name]
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return names
    return []


def function_names(function: ast.FunctionDef) -> set[str]:
    """Every name that a function has for itself: its parameters and what it binds."""
    parameters = {child.arg for child in ast.walk(function.args) if isinstance(child, ast.arg)}
    return parameters | bound_names(function.body)


def mentioned_names(function: ast.FunctionDef) -> set[str]:
    """Every name in a function, its own or not: a new one must be none of them."""
    return function_names(function) | loaded_names(function)


def nested_functions(function: ast.FunctionDef) -> list[ast.stmt]:
    """Definitions and lambdas inside a function, as statements: they read its names whenever they are called."""
    nested = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    inner = [node for node in ast.walk(function) if isinstance(node, nested) and node is not function]
    return [ast.Expr(node) if isinstance(node, ast.Lambda) else node for node in inner]


def only_binds(statement: ast.stmt) -> bool:
    """Whether a statement does nothing but bind names: it may be left out where the names are not needed."""
    match statement:
        case ast.Assign(targets=targets):
            return all(isinstance(target, ast.Name) for target in targets)
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            return isinstance(target, ast.Name)
        case ast.If(body=body, orelse=orelse):
            return all(only_binds(inner) for inner in (*body, *orelse))
    return isinstance(statement, ast.Pass)


def assigned_name(statement: ast.stmt) -> str | None:
    """`x` of `x = ...` and of `x: T = ...`."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            return name
    return None


def is_pure(node: ast.expr) -> bool:
    """Whether an expression only reads names and attributes and compares them: it may be evaluated once more."""
    allowed = ast.Name | ast.Attribute | ast.Constant | ast.IfExp | ast.Compare | ast.BoolOp | ast.UnaryOp
    return all(
        isinstance(child, allowed | ast.expr_context | ast.cmpop | ast.boolop | ast.unaryop) for child in ast.walk(node)
    )


def is_none_assignment(statement: ast.stmt, name: str) -> bool:
    """`loss = None`"""
    match statement:
        case ast.Assign(targets=[ast.Name(id=target)], value=ast.Constant(value=None)):
            return target == name
    return False


def is_label_move(statement: ast.stmt, labels: str) -> bool:
    """`labels = labels.to(logits.device)`: the fused call moves labels by itself."""
    match statement:
        case ast.Assign(
            targets=[ast.Name(id=target)],
            value=ast.Call(
                func=ast.Attribute(value=ast.Name(id=moved), attr="to"),
                args=[ast.Attribute(attr="device")],
                keywords=[],
            ),
        ):
            return target == moved == labels
    return False


def only_returned(name: str, statements: list[ast.stmt]) -> bool:
    """Whether a name is read only as a logits field of what is built or as an item of a tuple: where None may stand."""
    for statement in statements:
        allowed = {
            id(child)
            for node in ast.walk(statement)
            for child in (
                [keyword.value for keyword in node.keywords if "logits" in (keyword.arg or "")]
                if isinstance(node, ast.Call) and _is_output(node)
                else node.elts
                if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load)
                else []
            )
        }
        for node in ast.walk(statement):
            if (
                isinstance(node, ast.Name)
                and node.id == name
                and (not isinstance(node.ctx, ast.Load) or id(node) not in allowed)
            ):
                return False
            if isinstance(node, ast.ListComp | ast.GeneratorExp) and name in loaded_names(node):
                return False
    return True


def packs(statement: ast.stmt, name: str) -> bool:
    """`outputs = (name,) + outputs`: a statement that only puts a name into a tuple."""
    match statement:
        case ast.Assign(
            targets=[ast.Name()], value=ast.BinOp(left=ast.Tuple(elts=elements), op=ast.Add(), right=other)
        ):
            reading = [each for each in elements if name in loaded_names(each)]
            return bool(reading) and all(_is_name(each, name) for each in reading) and isinstance(other, ast.Name)
    return False


def only_packed(name: str, statements: list[ast.stmt]) -> bool:
    """Whether a tuple is read only to be returned or to be put behind other items."""
    allowed = {id(part) for statement in statements for node in ast.walk(statement) for part in _handed_on(node)}
    return all(id(node) in allowed for statement in statements for node in ast.walk(statement) if _is_name(node, name))


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)


def _handed_on(node: ast.AST) -> list[ast.expr | None]:
    """What a node gives on as it is: a return its value, a sum (of tuples) both sides."""
    match node:
        case ast.Return(value=value):
            return [value]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [left, right]
    return []


def _is_output(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id[:1].isupper()


def source_lines(statement: ast.stmt, text: str, first_line: int) -> str | None:
    """The whole lines that a statement stands on, without their common indentation.

    None where they would mean something else elsewhere: a string over several lines, or lines at the margin.
    """
    last = statement.end_lineno or statement.lineno
    lines = text.splitlines()[statement.lineno - first_line : last - first_line + 1]
    moved = textwrap.dedent("\n".join(lines))
    try:
        same = ast.dump(ast.parse(moved)) == ast.dump(ast.Module([statement], []))
    except SyntaxError:
        return None
    over_lines = any(
        isinstance(child, ast.Constant | ast.JoinedStr) and child.end_lineno != child.lineno
        for child in ast.walk(statement)
    )
    return moved if same and not over_lines else None


def share_a_line(statements: list[ast.stmt]) -> bool:
    """Whether two statements stand on one line, as in `a; b`."""
    return any(one.end_lineno == other.lineno for one, other in itertools.pairwise(statements))
