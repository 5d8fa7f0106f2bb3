"""Put a branch before a run of statements, or take it out again; every other byte of the function stays.

splice(text, start, stop, block)    the statements become the `else:` of `block`, verbatim
unsplice(text)                      the function as it was
"""

from __future__ import annotations

import libcst as cst

_SHELL = "class _:\n"
_MARK = "fusible"

Statement = cst.SimpleStatementLine | cst.BaseCompoundStatement


class SpliceError(ValueError):
    """The text is not one function, or its statements are not the ones that were planned for."""


def splice(text: str, start: int, stop: int, block: str) -> str:
    """`text` (one method, with decorators) with `block` around its body's statements `start` to `stop`.

    `block` is an `if` statement; the statements become its `else`. Raises `SpliceError` if the text is not one
    method or has fewer statements.
    """
    module, function = _method(text)
    body = _statements(function)
    branch = cst.parse_statement(block, config=module.config_for_parsing)
    if not isinstance(branch, cst.If) or not 0 <= start <= stop < len(body):
        raise SpliceError("the block is no `if` statement, or the run lies outside of the function")
    first, *others = body[start : stop + 1]
    original = cst.IndentedBlock([first.with_changes(leading_lines=()), *others])
    branch = branch.with_changes(leading_lines=first.leading_lines, orelse=cst.Else(original))
    return _with_body(module, function, [*body[:start], branch, *body[stop + 1 :]])


def unsplice(text: str) -> str:
    """The inverse of `splice`. Raises `SpliceError` if there is no fused branch in the function."""
    module, function = _method(text)
    body = _statements(function)
    for position, statement in enumerate(body):
        if isinstance(statement, cst.If) and _is_fused(statement.test) and isinstance(statement.orelse, cst.Else):
            first, *others = (each for each in statement.orelse.body.body if isinstance(each, Statement))
            restored = [first.with_changes(leading_lines=statement.leading_lines), *others]
            return _with_body(module, function, [*body[:position], *restored, *body[position + 1 :]])
    raise SpliceError("there is no fused branch in the function")


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


def _statements(function: cst.FunctionDef) -> list[Statement]:
    body = function.body.body
    if not isinstance(function.body, cst.IndentedBlock) or any(
        isinstance(statement, cst.SimpleStatementLine) and len(statement.body) != 1 for statement in body
    ):
        raise SpliceError("several statements stand on one line")
    return [statement for statement in body if isinstance(statement, Statement)]


def _with_body(module: cst.Module, function: cst.FunctionDef, body: list[Statement]) -> str:
    shell = module.body[0]
    assert isinstance(shell, cst.ClassDef)
    edited = function.with_changes(body=function.body.with_changes(body=body))
    whole = module.with_changes(body=[shell.with_changes(body=shell.body.with_changes(body=[edited]))])
    return whole.code.removeprefix(_SHELL)


def _is_fused(test: cst.BaseExpression) -> bool:
    while isinstance(test, cst.BooleanOperation):
        test = test.left
    return isinstance(test, cst.Call) and isinstance(test.func, cst.Name) and test.func.value == _MARK
