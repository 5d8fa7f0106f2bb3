"""Forwards that were changed at random: never a crash, never a match whose output does not compile.

The cases under tests/cases are where it starts from. Statements are taken out, doubled, exchanged, put under a
condition or into a loop; names, constants and operators are exchanged; or tokens of the text are, which mostly gives
no Python at all.
"""

from __future__ import annotations

import ast
import copy
import io
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.pipeline import read_index
from fusegen.codegen.plan import PlanRefusal, plan
from fusegen.codegen.render import fused_function
from fusegen.codegen.splice import unsplice

CASES = sorted((Path(__file__).parents[1] / "cases" / "linear_cross_entropy").glob("*.py"))
TEXTS = {path.stem: path.read_bytes().decode() for path in CASES}

Drawn = TypeVar("Drawn")
Draw = Callable[[st.SearchStrategy[Drawn]], Drawn]

FUZZ = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(text: str) -> None:
    """Read a text as a scan does, and put together what an emit would write for each match."""
    try:
        report, matches, index = read_index("models/bird/modeling_bird.py", text, DEFAULT_MAPPING)
    except (SyntaxError, ValueError):
        return
    assert [failure for failure in report.failures if failure.internal] == []
    for site in report.sites:
        assert site.verdict == "match" or site.reason
    for site, analysis in matches:
        assert index is not None
        assert site.losses
        outcome = plan(site, analysis)
        if isinstance(outcome, PlanRefusal):
            assert outcome.code
            continue
        function = fused_function(outcome, analysis.block)
        compile(f"class _:\n{function}\n", "generated", "exec")
        assert unsplice(function + "\n") == analysis.block.text.rstrip() + "\n"


@FUZZ
@given(st.data())
def test_changed_statements(data: st.DataObject) -> None:
    tree = ast.parse(TEXTS[data.draw(st.sampled_from(sorted(TEXTS)))])
    assume(_bodies(tree))
    for _ in range(data.draw(st.integers(1, 4))):
        data.draw(st.sampled_from((_take_out, _double, _exchange, _nest, _rename, _other_constant, _other_operator)))(
            tree, data.draw
        )
    text = ast.unparse(ast.fix_missing_locations(tree))
    check(text + "\n")


@FUZZ
@given(st.data())
def test_changed_tokens(data: st.DataObject) -> None:
    text = TEXTS[data.draw(st.sampled_from(sorted(TEXTS)))].replace("\r\n", "\n")
    lines = text.splitlines(keepends=True)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.string.strip()]
    for _ in range(data.draw(st.integers(1, 3))):
        place, other = data.draw(st.sampled_from(tokens)), data.draw(st.sampled_from(tokens))
        if place.start[0] == place.end[0]:
            row = lines[place.start[0] - 1]
            put = data.draw(st.sampled_from(("", other.string, f"{place.string} {other.string}", "\x0c", "'''", "(")))
            lines[place.start[0] - 1] = row[: place.start[1]] + put + row[place.end[1] :]
    check("".join(lines))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(sorted(TEXTS)), st.integers(0, 4000))
def test_noise_in_the_text(noise: bytes, case: str, place: int) -> None:
    text = TEXTS[case]
    check(text[:place] + noise.decode("latin-1") + text[place:])


def _bodies(tree: ast.AST) -> list[list[ast.stmt]]:
    """Every list of statements inside of functions."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [
        body
        for function in functions
        for node in ast.walk(function)
        for body in (getattr(node, "body", None), getattr(node, "orelse", None))
        if isinstance(body, list) and body and isinstance(body[0], ast.stmt)
    ]


def _spot(tree: ast.AST, draw: Draw) -> tuple[list[ast.stmt], int]:
    body = draw(st.sampled_from(_bodies(tree)))
    return body, draw(st.integers(0, len(body) - 1))


def _take_out(tree: ast.AST, draw: Draw) -> None:
    body, place = _spot(tree, draw)
    body[place : place + 1] = [] if len(body) > 1 else [ast.Pass()]


def _double(tree: ast.AST, draw: Draw) -> None:
    body, place = _spot(tree, draw)
    other, where = _spot(tree, draw)
    other.insert(where, copy.deepcopy(body[place]))


def _exchange(tree: ast.AST, draw: Draw) -> None:
    body, place = _spot(tree, draw)
    where = draw(st.integers(0, len(body) - 1))
    body[place], body[where] = body[where], body[place]


def _nest(tree: ast.AST, draw: Draw) -> None:
    body, place = _spot(tree, draw)
    inner = body[place]
    test = ast.parse(
        draw(st.sampled_from(("labels is not None", "self.training", "use_cache", "not labels"))), mode="eval"
    )
    body[place] = draw(
        st.sampled_from(
            (
                ast.If(test.body, [inner], []),
                ast.If(test.body, [ast.Pass()], [inner]),
                ast.For(ast.Name("each", ast.Store()), ast.Name("labels", ast.Load()), [inner], []),
                ast.While(test.body, [inner, ast.Break()], []),
                ast.With([ast.withitem(ast.parse("torch.no_grad()", mode="eval").body)], [inner]),
                ast.Try([inner], [ast.ExceptHandler(None, None, [ast.Pass()])], [], []),
            )
        )
    )


def _rename(tree: ast.AST, draw: Draw) -> None:
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    draw(st.sampled_from(names)).id = draw(st.sampled_from(names)).id


def _other_constant(tree: ast.AST, draw: Draw) -> None:
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and not isinstance(node.value, str)]
    if constants:
        draw(st.sampled_from(constants)).value = draw(st.sampled_from((None, True, 0, -1, 2, 30.0, -100)))


def _other_operator(tree: ast.AST, draw: Draw) -> None:
    operations = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp | ast.AugAssign)]
    if operations:
        draw(st.sampled_from(operations)).op = draw(
            st.sampled_from((ast.Add(), ast.Sub(), ast.Mult(), ast.Div(), ast.MatMult(), ast.Pow()))
        )
