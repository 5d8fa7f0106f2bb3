"""Rows that a forward chooses after the head, chosen before it instead: the head treats every row alike.

    shift_logits = logits[..., :-1, :].contiguous()   ->   shift_hidden_states = hidden_states[..., :-1, :].contiguous()

Only statements whose reading as a choice of rows is proven come here (each is a `token_select` of the chain); what
is asked of their text is that nothing in it looks at the last dimension or the dtype.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from fusegen.codegen.operands import Unwritable

_LOGITS = re.compile(r"(prediction_)?(logits|scores)")


def on_hidden_states(text: str, names: dict[str, str], taken: set[str]) -> str:
    """The statement `text` with hidden states for logits.

    `names` maps the names of logits to those of hidden states, and grows by what the statement binds; `taken` are
    the other names of the function. Raises `Unwritable`.
    """
    statement = ast.parse(text).body[0]
    assignments = [(target, rows_of(value)) for target, value in _assignments(statement)]
    for target, root in assignments:
        if root is not None and root.id in names and target.id not in names:
            names[target.id] = _fresh(target.id, taken)
    replaced: list[tuple[ast.Name, str]] = []
    for target, root in assignments:
        if target.id in names:
            if root is None or root.id not in names:
                raise Unwritable(f"`{target.id}` holds logits or something else")
            replaced.append((target, names[target.id]))
    allowed = {id(name) for name in _harmless(statement)}
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
            if id(node) not in allowed:
                raise Unwritable(f"`{ast.unparse(statement)[:60]}` reads more than rows of the logits")
            replaced.append((node, names[node.id]))
    return with_replaced(text, replaced)


def with_replaced(text: str, replaced: list[tuple[ast.Name, str]]) -> str:
    """`text` with another name in the place of each of these nodes."""
    lines = [line.encode() for line in text.split("\n")]
    for node, name in sorted(replaced, key=lambda pair: (pair[0].lineno, pair[0].col_offset), reverse=True):
        line = lines[node.lineno - 1]
        lines[node.lineno - 1] = line[: node.col_offset] + name.encode() + line[node.end_col_offset :]
    return "\n".join(line.decode() for line in lines)


def _assignments(statement: ast.stmt) -> Iterator[tuple[ast.Name, ast.expr]]:
    match statement:
        case ast.Assign(targets=[ast.Name() as target], value=value):
            yield target, value
        case ast.If(body=body, orelse=orelse):
            for inner in (*body, *orelse):
                yield from _assignments(inner)
        case _:
            raise Unwritable("a choice of rows that is no plain assignment")


def rows_of(value: ast.expr) -> ast.Name | None:
    """`x` of `x[...]`, `x[...][...]`, `x.contiguous()` and of `x` itself."""
    match value:
        case ast.Name():
            return value
        case ast.Subscript(value=inner) | ast.Call(func=ast.Attribute(value=inner, attr="contiguous"), args=[]):
            return rows_of(inner)
    return None


def _harmless(statement: ast.stmt) -> Iterator[ast.Name]:
    """Names of which only rows, a device or one of the first two dimensions are read."""
    for node in ast.walk(statement):
        match node:
            case ast.Assign(value=value) if (name := rows_of(value)) is not None:
                yield name
            case (
                ast.Attribute(value=ast.Name() as name, attr="device")
                | ast.Call(func=ast.Attribute(value=ast.Name() as name, attr="size"), args=[ast.Constant(value=0 | 1)])
                | ast.Subscript(
                    value=ast.Attribute(value=ast.Name() as name, attr="shape"), slice=ast.Constant(value=0 | 1)
                )
            ):
                yield name


def _fresh(name: str, taken: set[str]) -> str:
    """A name for hidden states after that of the logits which they stand for."""
    fresh = _LOGITS.sub("hidden_states", name) if _LOGITS.search(name) else f"{name}_hidden_states"
    if fresh in taken:
        raise Unwritable(f"the name `{fresh}` is taken")
    taken.add(fresh)
    return fresh
