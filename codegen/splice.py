"""Put a branch before a run of statements, or take it out again; every other byte of the function stays.

splice(text, way, start, stop, block)    the statements become the `else:` of `block`, verbatim
unsplice(text)                           the function as it was
"""

from __future__ import annotations

from itertools import zip_longest

import libcst as cst

from fusegen.codegen.place import Way

_SHELL = "class _:\n"
_MARK = "fusible"

Statement = cst.SimpleStatementLine | cst.BaseCompoundStatement


class SpliceError(ValueError):
    """The text is not one function, or its statements are not the ones that were planned for."""


def splice(text: str, way: Way, start: int, stop: int, block: str) -> str:
    """`text` (one method, with decorators) with `block` around the statements `start` to `stop` of a suite.

    `way` leads from the body of the function to the suite: positions of `if` statements, and `body` or `orelse`.
    `block` is an `if` statement; the statements become its `else`. Raises `SpliceError` if the text is not one
    method or has fewer statements.
    """
    module, function = _method(text)
    branch = cst.parse_statement(block, config=module.config_for_parsing)
    if not isinstance(branch, cst.If):
        raise SpliceError("the block is no `if` statement")
    return _with_body(module, function, _spliced(function.body, way, start, stop, branch))


def _spliced(suite: cst.BaseSuite, way: Way, start: int, stop: int, branch: cst.If) -> cst.BaseSuite:
    body = _statements(suite)
    if not 0 <= start <= stop < len(body) and not way:
        raise SpliceError("the run lies outside of the function")
    if way:
        (position, name), *further = way
        outer = body[position]
        assert isinstance(outer, cst.If)
        inner = outer if name == "body" else outer.orelse
        assert isinstance(inner, cst.If | cst.Else)
        edited = inner.with_changes(body=_spliced(inner.body, tuple(further), start, stop, branch))
        body[position] = outer.with_changes(orelse=edited) if name == "orelse" else outer.with_changes(body=edited.body)
        return suite.with_changes(body=body)
    first, *others = body[start : stop + 1]
    original = cst.IndentedBlock([first.with_changes(leading_lines=()), *others])
    branch = branch.with_changes(leading_lines=first.leading_lines, orelse=cst.Else(original))
    return suite.with_changes(body=[*body[:start], branch, *body[stop + 1 :]])


def unsplice(text: str) -> str:
    """The inverse of all splices. Raises `SpliceError` if there is no fused branch in the function."""
    module, function = _method(text)
    restored = _unspliced(function.body)
    if restored is None:
        raise SpliceError("there is no fused branch in the function")
    return _with_body(module, function, restored)


def _unspliced(suite: cst.BaseSuite) -> cst.BaseSuite | None:
    """A suite without its fused branches and those further in; None if there are none."""
    if not isinstance(suite, cst.IndentedBlock):
        return None
    body: list[cst.BaseStatement] = []
    for statement in suite.body:
        if isinstance(statement, cst.If) and _is_fused(statement.test) and isinstance(statement.orelse, cst.Else):
            first, *others = (each for each in statement.orelse.body.body if isinstance(each, Statement))
            body += [first.with_changes(leading_lines=statement.leading_lines), *others]
        elif isinstance(statement, cst.If):
            body.append(_unspliced_if(statement))
        else:
            body.append(statement)
    return suite.with_changes(body=body) if any(a is not b for a, b in zip_longest(body, suite.body)) else None


def _unspliced_if(statement: cst.If) -> cst.If:
    inner = _unspliced(statement.body)
    statement = statement.with_changes(body=inner) if inner is not None else statement
    if isinstance(statement.orelse, cst.Else) and (other := _unspliced(statement.orelse.body)) is not None:
        return statement.with_changes(orelse=statement.orelse.with_changes(body=other))
    return statement


def _method(text: str) -> tuple[cst.Module, cst.FunctionDef]:
    try:
        module = cst.parse_module(_SHELL + text)
    except cst.ParserSyntaxError as error:
        raise SpliceError(f"not a method: {error.message}") from error
    shell = module.body[0]
    body = shell.body.body if isinstance(shell, cst.ClassDef) else ()
    if len(module.body) != 1 or len(body) != 1 or not isinstance(body[0], cst.FunctionDef):
        raise SpliceError("the text is not one method")
    return module, body[0]


def _statements(suite: cst.BaseSuite) -> list[Statement]:
    body = suite.body
    if not isinstance(suite, cst.IndentedBlock) or any(
        isinstance(statement, cst.SimpleStatementLine) and len(statement.body) != 1 for statement in body
    ):
        raise SpliceError("several statements stand on one line")
    return [statement for statement in body if isinstance(statement, Statement)]


def _with_body(module: cst.Module, function: cst.FunctionDef, body: cst.BaseSuite) -> str:
    shell = module.body[0]
    assert isinstance(shell, cst.ClassDef)
    edited = function.with_changes(body=body)
    whole = module.with_changes(body=[shell.with_changes(body=shell.body.with_changes(body=[edited]))])
    return whole.code.removeprefix(_SHELL)


def _is_fused(test: cst.BaseExpression) -> bool:
    while isinstance(test, cst.BooleanOperation):
        test = test.right
    return isinstance(test, cst.Call) and isinstance(test.func, cst.Name) and test.func.value == _MARK
