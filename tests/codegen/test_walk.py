"""Properties of the walk that no single case shows: equality of values, mutated sources, the fast index."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusegen.codegen.index import FileIndex
from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.pipeline import read_file
from fusegen.codegen.records import Site
from fusegen.codegen.values import Attr, Call, Const, Global, Opaque, Self

CASES = sorted((Path(__file__).parents[1] / "cases" / "linear_cross_entropy").glob("*.py"))
MATCHED = [text for path in CASES if (text := path.read_bytes().decode()).startswith("# verdict: match")]


# -- equality of values ----------------------------------------------------------------------------------------


def test_constants_that_python_hashes_alike_differ() -> None:
    assert Const(-1) != Const(-2)
    assert Const(1) != Const(True)
    assert Const(1) != Const(1.0)
    assert Const(0) != Const(False)
    assert Const("1") != Const(1)


def test_values_that_are_built_alike_are_equal() -> None:
    assert Attr(Attr(Self(), "config"), "cap") == Attr(Attr(Self(), "config"), "cap")
    assert Attr(Self(), "cap", node=ast.Name("x")) == Attr(Self(), "cap")
    assert Attr(Self(), "cap") != Attr(Self(), "other")


def test_impure_calls_and_opaque_values_differ() -> None:
    function = Global("torch.rand")
    assert Call(function, (), (), 1) != Call(function, (), (), 2)
    assert Call(function, (), (), None) == Call(function, (), (), None)
    assert Opaque("a loop", 1) != Opaque("a loop", 2)


# -- mutated sources -------------------------------------------------------------------------------------------


def site_of(text: str) -> Site | None:
    report = read_file("models/bird/modeling_bird.py", text, DEFAULT_MAPPING)
    assert not report.failures, report.failures
    sites = [site for site in report.sites if site.method == "forward"]
    return sites[-1] if sites else None


def meaning(site: Site) -> tuple[object, ...]:
    """What a match claims, without the places in the source."""
    losses = tuple(
        (
            loss.kind,
            loss.labels,
            loss.label_source,
            loss.keywords,
            loss.vocab_size,
            loss.head
            and (
                loss.head.expression,
                loss.head.linear,
                loss.head.rows,
                loss.head.bias,
                loss.head.before,
                loss.head.hidden,
            ),
            tuple((operation.op, operation.arguments, operation.when) for operation in loss.chain),
        )
        for loss in site.losses
    )
    return losses, site.guards


def forward_of(tree: ast.Module) -> ast.FunctionDef:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "forward"][-1]


def between_head_and_loss(tree: ast.Module, site: Site) -> list[ast.stmt]:
    """The assignments of the forward after the head and before the loss.

    But for masks, which the chain has by name, and labels that the forward shifts itself: emission keeps both verbatim.
    """
    head = min(loss.head.line for loss in site.losses if loss.head)
    loss = min(loss.line for loss in site.losses)
    return [
        node
        for node in ast.walk(forward_of(tree))
        if isinstance(node, ast.Assign | ast.AugAssign)
        and head < node.lineno < loss
        and not re.match(r"\w*(mask|labels) =", ast.unparse(node))
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_mutated_source_never_breaks_the_walk(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(MATCHED))
    tree = ast.parse(text)
    _mutate(data, forward_of(tree))
    site_of(ast.unparse(ast.fix_missing_locations(tree)))


def _mutate(data: st.DataObject, forward: ast.FunctionDef) -> None:
    match data.draw(st.sampled_from(["delete", "duplicate", "swap", "constant", "rename", "operator"])):
        case "delete" | "duplicate" as kind:
            bodies = [node.body for node in ast.walk(forward) if isinstance(node, ast.FunctionDef | ast.If)]
            body = data.draw(st.sampled_from(bodies))
            position = data.draw(st.integers(0, len(body) - 1))
            body[position : position + 1] = [ast.Pass()] if kind == "delete" else [body[position], body[position]]
        case "swap":
            operations = [node for node in ast.walk(forward) if isinstance(node, ast.BinOp)]
            if operations:
                operation = data.draw(st.sampled_from(operations))
                operation.left, operation.right = operation.right, operation.left
        case "constant":
            constants = [node for node in ast.walk(forward) if isinstance(node, ast.Constant)]
            if constants:
                data.draw(st.sampled_from(constants)).value = data.draw(
                    st.sampled_from([0, 1, -1, 2.5, None, True, "x"])
                )
        case "rename":
            names = [node for node in ast.walk(forward) if isinstance(node, ast.Name)]
            chosen = data.draw(st.sampled_from(names))
            chosen.id = data.draw(st.sampled_from([name.id for name in names]))
        case "operator":
            operations = [node for node in ast.walk(forward) if isinstance(node, ast.BinOp)]
            if operations:
                data.draw(st.sampled_from(operations)).op = data.draw(
                    st.sampled_from([ast.Add(), ast.Mult(), ast.Div(), ast.Sub()])
                )


@pytest.mark.parametrize("text", MATCHED, ids=lambda text: str(MATCHED.index(text)))
def test_a_changed_operation_on_the_logits_shows(text: str) -> None:
    """Between head and loss, another operator or operand gives another chain, or none."""
    site = site_of(text)
    assert site is not None
    for number, statement in enumerate(between_head_and_loss(ast.parse(text), site)):
        for node_number, node in enumerate(ast.walk(statement)):
            if not isinstance(node, ast.BinOp | ast.Slice):
                continue
            tree = ast.parse(text)
            changed = list(ast.walk(between_head_and_loss(tree, site)[number]))[node_number]
            if isinstance(changed, ast.BinOp):
                changed.op = ast.Sub()
            elif isinstance(changed, ast.Slice):
                changed.step = ast.Constant(3)
            after = site_of(ast.unparse(ast.fix_missing_locations(tree)))
            assert after is None or after.verdict != "match" or meaning(after) != meaning(site), ast.unparse(statement)


@pytest.mark.parametrize(
    "inserted",
    [
        "{logits}.mul_(2)",
        "{logits}[0] = 0",
        "self.keep({logits})",
        "{logits} = {logits}.exp()",
        "{logits} = torch.dropout({logits}, 0.5, True)",
        "print({logits}.max())",
        "global {logits}",
    ],
)
def test_an_inserted_statement_after_the_head_refuses(inserted: str) -> None:
    tried = 0
    for text in MATCHED:
        tree = ast.parse(text)
        body = forward_of(tree).body
        for position, statement in enumerate(body):
            match statement:
                case ast.Assign(
                    targets=[ast.Name(id=name)],
                    value=ast.Call(func=ast.Attribute(value=ast.Name("self"), attr="lm_head")),
                ):
                    pass
                case _:
                    continue
            new = ast.parse(inserted.format(logits=name)).body
            at = position if inserted.startswith("global") else position + 1
            body[at:at] = new
            after = site_of(ast.unparse(ast.fix_missing_locations(tree)))
            assert after is None or after.verdict == "reject", text
            tried += 1
            break
    assert tried > 50


# -- the fast index --------------------------------------------------------------------------------------------


def modeling_files() -> list[Path]:
    found = importlib.util.find_spec("transformers")
    if found is None or found.origin is None:
        return []
    files = sorted(Path(found.origin).parent.glob("models/*/modeling_*.py"))
    return files[:: max(1, len(files) // 40)]


@pytest.mark.parametrize("path", modeling_files(), ids=lambda path: path.stem)
def test_the_fast_index_equals_a_whole_parse(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    fast, whole = FileIndex(text), FileIndex.whole(text)
    assert fast.classes.keys() == whole.classes.keys()
    assert fast.functions.keys() == whole.functions.keys()
    assert fast.imports == whole.imports
    assert fast.ambiguous == whole.ambiguous
    for name, block in fast.classes.items():
        other = whole.classes[name]
        assert block.bases == other.bases
        assert block.methods.keys() == other.methods.keys()
        for method, function in block.methods.items():
            assert _same(function.node, other.methods[method].node), f"{name}.{method}"
    for name, function in fast.functions.items():
        assert _same(function.node, whole.functions[name].node), name


def _same(one: ast.AST, other: ast.AST) -> bool:
    return ast.dump(one, include_attributes=True) == ast.dump(other, include_attributes=True)
