"""Rewrites of a forward: some keep its meaning, some change it. Each gets a `Draft`, edits it, and says what it did.

    keep    renamed locals, inlined and extracted expressions, `if True`, a helper method, a walrus, ...
    change  an operation more or less, a name bound again, a store, an in-place edit, another keyword of the loss, ...

A mutation that does not fit the draft raises `Unfit`. Everything is drawn from `draft.random`.
"""

from __future__ import annotations

import ast
import copy
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


# --- helpers -------------------------------------------------------------------------------------------------------


def _parsed(text: str) -> list[ast.stmt]:
    return ast.parse(text).body


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _replace(draft: Draft, old: ast.stmt, new: list[ast.stmt]) -> None:
    suite = draft.suite(old)
    position = next(i for i, each in enumerate(suite) if each is old)
    suite[position : position + 1] = new


class _Swap(ast.NodeTransformer):
    def __init__(self, pairs: dict[int, ast.expr]) -> None:
        self.pairs = pairs

    def visit(self, node: ast.AST) -> Any:
        new = self.pairs.pop(id(node), None)
        return new if new is not None else self.generic_visit(node)


def _swap(inside: ast.AST, old: ast.expr, new: ast.expr) -> None:
    _Swap({id(old): new}).visit(inside)


def _expressions(statement: ast.AST, kinds: Any) -> list[Any]:
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


def _assigned(statement: ast.stmt) -> str | None:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
    return None


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _own_head(statement: ast.stmt) -> list[ast.expr]:
    """The expressions of a statement that are evaluated where it stands, and once."""
    match statement:
        case ast.Assign(value=value) | ast.AugAssign(value=value) | ast.Expr(value=value):
            return [value]
        case ast.Return(value=value) if value is not None:
            return [value]
        case ast.If(test=test):
            return [test]
    return []


def _fresh(draft: Draft, name: str) -> str:
    taken = _names(draft.function) | {each.arg for each in ast.walk(draft.function) if isinstance(each, ast.arg)}
    taken |= {each.name for each in draft.owner.body if isinstance(each, ast.FunctionDef)}
    while name in taken:
        name += "_"
    return name


def _locals(draft: Draft) -> list[str]:
    parameters = {each.arg for each in ast.walk(draft.function.args) if isinstance(each, ast.arg)}
    inner = {n.id for f in ast.walk(draft.function) if isinstance(f, ast.Lambda | ast.FunctionDef | ast.comprehension)
             and f is not draft.function for n in ast.walk(f) if isinstance(n, ast.Name)}
    stored = {each.id for each in ast.walk(draft.function) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    return sorted(stored - parameters - inner)


def _stored_attributes(draft: Draft) -> list[str]:
    return [ast.unparse(each) for each in ast.walk(draft.function) if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)]


# --- what keeps the meaning ----------------------------------------------------------------------------------------


@keeps
def rename_local(draft: Draft) -> str:
    old = draft.choose(_locals(draft))
    new = _fresh(draft, draft.choose(["x", "scores", "h", "result", "logits", "hidden_states", "loss", "outputs", "labels_"]))
    for node in ast.walk(draft.function):
        if isinstance(node, ast.Name) and node.id == old:
            node.id = new
    for key, name in draft.names.items():
        if name == old:
            draft.names[key] = new
    return f"{old} -> {new}"


@keeps
def extract(draft: Draft) -> str:
    """The first expression that a statement evaluates, into a name of its own."""
    statement = draft.choose([each for each in draft.near() if _own_head(each)])
    (value,) = _own_head(statement)
    inner = [each for each in _expressions(value, ast.expr) if not isinstance(each, ast.Starred | ast.Constant | ast.Slice)]
    inner = [each for each in inner if each is value or _is_first(value, each)]
    old = draft.choose(inner)
    name = _fresh(draft, "part")
    new = ast.Assign([ast.Name(name, ast.Store())], copy.deepcopy(old))
    _swap(statement, old, ast.Name(name, ast.Load()))
    _replace(draft, statement, [new, statement])
    if isinstance(new.value, ast.Call) and statement is draft.head and draft.names["head"] in ast.unparse(new.value):
        draft.head = new
    return ast.unparse(new)


def _is_first(value: ast.expr, inner: ast.expr) -> bool:
    """Whether nothing but names and attributes is evaluated before an expression, and nothing decides about it."""
    lazy = [n for n in ast.walk(value) if isinstance(n, ast.BoolOp | ast.IfExp | ast.ListComp | ast.GeneratorExp | ast.DictComp | ast.Compare | ast.NamedExpr)]
    if any(inner in ast.walk(each) for each in lazy):
        return False
    calls = [each for each in ast.walk(value) if isinstance(each, ast.Call)]
    if any(isinstance(value_, ast.Attribute) and inner is value_ for call in calls for value_ in [call.func]):
        return True
    before = [each for each in calls if inner not in ast.walk(each) and each not in ast.walk(inner)]
    return not before


@keeps
def inline(draft: Draft) -> str:
    """`x = a.b; f(x)` -> `f(a.b)` where nothing stands between."""
    near = draft.near()
    pairs = [(one, two) for one in near if (name := _assigned(one)) and _is_plain(one.value)  # type: ignore[attr-defined]
             for two in _next(draft, one) if name in {n.id for n in _expressions(two, ast.Name)}]
    one, two = draft.choose(pairs)
    name = _assigned(one)
    uses = [n for n in ast.walk(draft.function) if isinstance(n, ast.Name) and n.id == name]
    here = [n for e in _own_head(two) for n in _expressions(e, ast.Name) if n.id == name]
    if not here or len(uses) != len(here) + 1:
        raise Unfit
    for use in here:
        _swap(two, use, copy.deepcopy(one.value))
    _replace(draft, one, [])
    return f"{ast.unparse(one)} into {ast.unparse(two)[:60]}"


def _is_plain(value: ast.expr) -> bool:
    return all(isinstance(n, ast.Name | ast.Attribute | ast.Constant | ast.expr_context) for n in ast.walk(value))


def _next(draft: Draft, statement: ast.stmt) -> list[ast.stmt]:
    suite = draft.suite(statement)
    position = next(i for i, each in enumerate(suite) if each is statement)
    return suite[position + 1 : position + 2]


@keeps
def swap_independent(draft: Draft) -> str:
    """Two assignments of which neither reads or writes what the other writes, and one of which only reads names."""
    pairs = []
    for one in draft.near():
        for two in _next(draft, one):
            a, b = _assigned(one), _assigned(two)
            if a and b and a not in _names(two) and b not in _names(one):
                plain = [all(isinstance(n, ast.Name | ast.Constant | ast.expr_context) for n in ast.walk(each.value)) for each in (one, two)]  # type: ignore[attr-defined]
                if any(plain):
                    pairs.append((one, two))
    one, two = draft.choose(pairs)
    suite = draft.suite(one)
    i = next(i for i, each in enumerate(suite) if each is one)
    suite[i], suite[i + 1] = two, one
    return f"{ast.unparse(one)[:40]} <-> {ast.unparse(two)[:40]}"


_WRAPPED = (
    "if True:\n    S",
    "if not False:\n    S\nelse:\n    pass",
    "for _ in range(1):\n    S",
    "with contextlib.nullcontext():\n    S",
    "try:\n    S\nfinally:\n    pass",
    "while True:\n    S\n    break",
    "if 1:\n    pass\n    S",
    "if self is not None:\n    S",
    "with torch.enable_grad():\n    S",
)


@keeps
def wrap_harmless(draft: Draft) -> str:
    return _wrap(draft, draft.choose(_WRAPPED))


def _wrap(draft: Draft, form: str, *, whole: bool | None = None) -> str:
    _import(draft, "contextlib")
    suite = draft.suite(draft.head)
    start = next(i for i, each in enumerate(suite) if each is draft.head)
    stop = next((i for i, each in enumerate(suite) if draft.loss in ast.walk(each)), start)
    run = draft.random.random() < 0.3 if whole is None else whole
    if run:
        taken, place, at = suite[start : stop + 1], suite, start
    else:
        one = draft.choose([each for each in draft.near() if not isinstance(each, ast.Return | ast.FunctionDef | ast.Break | ast.Continue)])
        place = draft.suite(one)
        at = next(i for i, each in enumerate(place) if each is one)
        taken = [one]
    if any(isinstance(n, ast.Break | ast.Continue) for each in taken for n in ast.walk(each)):
        raise Unfit
    new = _parsed(form)
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


def _import(draft: Draft, name: str) -> None:
    if not any(isinstance(each, ast.Import) and each.names[0].name == name for each in draft.module.body):
        position = sum(isinstance(each, ast.ImportFrom) and each.module == "__future__" for each in draft.module.body)
        draft.module.body.insert(position, ast.Import([ast.alias(name)]))


@keeps
def helper_method(draft: Draft) -> str:
    """The value of an assignment, from a method of its own."""
    statement = draft.choose([each for each in draft.near() if _assigned(each) and not any(isinstance(n, ast.NamedExpr | ast.Yield | ast.Starred) for n in ast.walk(each))])
    bound = {a.arg for a in ast.walk(draft.function.args) if isinstance(a, ast.arg)} | set(_locals(draft))
    names = sorted(({n.id for n in _expressions(statement.value, ast.Name)} & bound) - {"self"})
    inside = {n.id for n in ast.walk(statement.value) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    if inside or "super" in _names(statement.value):
        raise Unfit
    name = _fresh(draft, draft.choose(["_helper", "project", "compute"]))
    arguments = ", ".join(["self", *names])
    method = _parsed(f"def {name}({arguments}):\n    return {ast.unparse(statement.value)}")[0]
    draft.owner.body.insert(draft.owner.body.index(draft.function), method)
    form = draft.choose(["self.{0}({1})", "self.{0}({2})"])
    statement.value = _expression(form.format(name, ", ".join(names), ", ".join(f"{each}={each}" for each in names)))
    return ast.unparse(method).replace("\n", " ")[:90]


@keeps
def walrus(draft: Draft) -> str:
    statement = draft.choose([each for each in draft.near() if _assigned(each)])
    new = ast.Expr(ast.NamedExpr(ast.Name(_assigned(statement), ast.Store()), statement.value))
    following = _next(draft, statement)
    if following and draft.random.random() < 0.6:
        two = following[0]
        uses = [n for e in _own_head(two) for n in _expressions(e, ast.Name) if n.id == _assigned(statement) and _is_first(e, n)]
        first = [n for n in uses if n is uses[0]]
        if first and not isinstance(two, ast.FunctionDef):
            _swap(two, first[0], new.value)
            _replace(draft, statement, [])
            if statement is draft.head:
                draft.head = two
            return f"in {ast.unparse(two)[:70]}"
    _replace(draft, statement, [new])
    if statement is draft.head:
        draft.head = new
    if statement is draft.loss:
        draft.loss = new
    return ast.unparse(new)[:80]


@keeps
def keywords(draft: Draft) -> str:
    """A positional argument by its name, or the other way round."""
    call = draft.choose(_calls_of_loss(draft))
    by_name = {each.arg: each for each in call.keywords}
    positional = len(call.args)
    if any(isinstance(each, ast.Starred) for each in call.args) or "loss_function" not in ast.unparse(call.func):
        raise Unfit
    if positional:
        last = call.args.pop()
        call.keywords.insert(0, ast.keyword(LOSS_PARAMETERS[positional - 1], last))
        return f"{LOSS_PARAMETERS[positional - 1]}="
    first = by_name.get("logits")
    if first is None or call.keywords[0] is not first:
        raise Unfit
    call.keywords.remove(first)
    call.args.append(first.value)
    return "logits positional"


def _calls_of_loss(draft: Draft) -> list[ast.Call]:
    return [each for each in ast.walk(draft.loss) if isinstance(each, ast.Call) and draft.names["loss_call"] == ast.unparse(each.func)]


def _calls_of_head(draft: Draft) -> list[ast.Call]:
    return [each for each in ast.walk(draft.head) if isinstance(each, ast.Call) and draft.names["head"] == ast.unparse(each.func)]


@keeps
def head_spelled_otherwise(draft: Draft) -> str:
    call = draft.choose(_calls_of_head(draft))
    head = draft.names["head"]
    owner, _, attribute = head.rpartition(".")
    if len(call.args) != 1 or call.keywords or not owner:
        raise Unfit
    argument = ast.unparse(call.args[0])
    form = draft.choose(["{h}.forward({a})", "{h}.__call__({a})", "getattr({o}, '{n}')({a})", "{h}(*[{a}])", "(lambda z: {h}(z))({a})",
                         "{h}({a}).contiguous()", "{h}(({a}))", "{h}(input={a})"])
    if "input=" in form and draft.names["composite"]:
        raise Unfit
    text = form.format(h=head, o=owner, n=attribute, a=argument)
    _swap(draft.head, call, _expression(text))
    return text


@keeps
def early_return(draft: Draft) -> str:
    """`if c: return x` and the rest -> `else:` with the rest, or the other way round."""
    for suite in [draft.function.body, draft.suite(draft.head)]:
        for i, each in enumerate(suite):
            if isinstance(each, ast.If) and not each.orelse and isinstance(each.body[-1], ast.Return) and suite[i + 1 :]:
                each.orelse = suite[i + 1 :]
                del suite[i + 1 :]
                return ast.unparse(each.test)[:60]
    raise Unfit


@keeps
def negate_twice(draft: Draft) -> str:
    statement = draft.choose([each for each in draft.statements() if isinstance(each, ast.If)])
    form = draft.random.randrange(4)
    test = statement.test
    if form == 0:
        statement.test = ast.UnaryOp(ast.Not(), ast.UnaryOp(ast.Not(), test))
    elif form == 1 and not (len(statement.orelse) == 1 and isinstance(statement.orelse[0], ast.If)):
        statement.test = ast.UnaryOp(ast.Not(), test)
        statement.body, statement.orelse = statement.orelse or [ast.Pass()], statement.body
    elif form == 2:
        match test:
            case ast.Compare(left=left, ops=[ast.IsNot()], comparators=[ast.Constant(None) as none]):
                statement.test = draft.choose([ast.Compare(none, [ast.IsNot()], [left]), ast.UnaryOp(ast.Not(), ast.Compare(left, [ast.Is()], [none]))])
            case _:
                raise Unfit
    else:
        match test:
            case ast.BoolOp(op=ast.And(), values=[first, *others]) if not statement.orelse:
                rest = others[0] if len(others) == 1 else ast.BoolOp(ast.And(), others)
                statement.test, statement.body = first, [ast.If(rest, statement.body, [])]
            case _:
                raise Unfit
    return ast.unparse(statement.test)[:70]


@keeps
def alias(draft: Draft) -> str:
    """A local for `self.config`, `self`, the head, or the module of the body."""
    paths = ["self.config", "self", draft.names["head"], "self.lm_head.weight", *draft.names["operands"].split()]
    paths = [path for path in paths if re.fullmatch(r"self(\.\w+)*", path)]
    path = draft.choose(paths)
    if path in _stored_attributes(draft):
        raise Unfit
    name = _fresh(draft, "alias")
    uses = [n for n in _expressions(draft.function, ast.Attribute | ast.Name) if ast.unparse(n) == path]
    uses = [n for n in uses if n is not None]
    if not uses or "super" in _names(draft.function) and path == "self":
        raise Unfit
    some = uses if draft.random.random() < 0.5 else [draft.choose(uses)]
    for use in some:
        for statement in draft.function.body:
            _swap(statement, use, ast.Name(name, ast.Load()))
    start = 1 if ast.get_docstring(draft.function) else 0
    draft.function.body.insert(start, _parsed(f"{name} = {path}")[0])
    return f"{name} = {path} ({len(some)} of {len(uses)})"


@keeps
def tuple_assignment(draft: Draft) -> str:
    pairs = [(one, two) for one in draft.near() if _assigned(one) for two in _next(draft, one)
             if _assigned(two) and _assigned(one) not in _names(two) and _assigned(two) not in _names(one.value)]  # type: ignore[attr-defined]
    one, two = draft.choose(pairs)
    text = f"{_assigned(one)}, {_assigned(two)} = {ast.unparse(one.value)}, {ast.unparse(two.value)}"
    new = _parsed(text)[0]
    for each in (one, two):
        if each is draft.head:
            draft.head = new
        if each is draft.loss:
            draft.loss = new
    _replace(draft, two, [])
    _replace(draft, one, [new])
    return text[:80]


@keeps
def noise(draft: Draft) -> str:
    """A statement that changes nothing, somewhere near."""
    text = draft.choose([
        "pass", "'text'", "unused = 1", "unused = self.config", "assert self is not None", "import math", "unused = [1, 2]",
        "global_step = 0", "def unused_function(x):\n    return x", "unused = {logits!r}", "del_me = 1; del del_me",
        "unused = {h}", "x_shape = {h}.shape", "unused = lambda: {h}", "batch, *_ = {h}.shape", "unused = {y}",
        "if False:\n    {h} = None", "if False:\n    {y} = None", "unused = type(self)", "print(end='')",
        "unused = {l} if False else None", "unused = {l}.shape[-1]", "unused = {l}.dtype", "unused = {l} is None",
        "kept = [{h}]", "for unused in ():\n    pass", "unused: int = 3",
    ])  # fmt: skip
    after = ["between", "inside", "after"]
    places = after if "{l}" in text else ["before", *after] if "{h}" in text else ["start", "before", *after]
    return insert(draft, text.replace("{logits!r}", "'logits'"), draft.choose(places))


@keeps
def through_value(draft: Draft) -> str:
    """The value of an assignment by a detour."""
    statement = draft.choose([each for each in draft.near() if _assigned(each) and not any(isinstance(n, ast.NamedExpr) for n in ast.walk(each))])
    form = draft.choose(["(lambda: {v})()", "{v} if True else None", "[{v}][0]", "({v},)[0]", "{{'v': {v}}}['v']", "next(iter([{v}]))", "(None or {v})", "({v})",
                         "max([{v}], key=id)", "[*[{v}]][-1]"])
    if "super" in _names(statement.value) or (form == "(None or {v})" and "self" not in _names(statement.value)):
        raise Unfit
    if form == "(None or {v})":
        raise Unfit
    statement.value = _expression(form.format(v=ast.unparse(statement.value)))
    return ast.unparse(statement)[:80]


@keeps
def augment(draft: Draft) -> str:
    """`x = x * a` <-> `x *= a` on a scalar; on a tensor it is an in-place edit, which autograd allows on a product."""
    for each in draft.near():
        match each:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.BinOp(left=ast.Name(id=left), op=op, right=right)) if name == left:
                _replace(draft, each, [ast.AugAssign(ast.Name(name, ast.Store()), op, right)])
                return ast.unparse(each)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                _replace(draft, each, [ast.Assign([ast.Name(name, ast.Store())], ast.BinOp(ast.Name(name, ast.Load()), op, value))])
                return ast.unparse(each)
    raise Unfit


@keeps
def arguments_in_a_dict(draft: Draft) -> str:
    call = draft.choose(_calls_of_loss(draft))
    if not call.keywords or any(each.arg is None for each in call.keywords):
        raise Unfit
    spelled = ", ".join(f"{each.arg}={ast.unparse(each.value)}" for each in call.keywords)
    call.keywords = [ast.keyword(None, _expression(f"dict({spelled})"))]
    return spelled[:70]


# --- what changes it -----------------------------------------------------------------------------------------------


def insert(draft: Draft, text: str, where: str | None = None) -> str:
    """A statement at the start, before the head, between, right before the loss, or after it."""
    where = where or draft.choose(["start", "before", "before", "between", "between", "inside", "after"])
    filled = _filled(draft, text)
    new = _parsed(filled)
    for name in re.findall(r"\b(random|functools|operator|contextlib)\.", filled):
        _import(draft, name)
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
    return f"{where}: {filled}"


def _filled(draft: Draft, text: str) -> str:
    names = draft.names
    operands = [each for each in names["operands"].split() if re.fullmatch(r"self(\.\w+)+", each)]
    operand = draft.choose(operands) if operands else "self.vocab_size"
    owner, _, attribute = operand.rpartition(".")
    parameters = [a.arg for a in draft.function.args.args if a.arg != "self"]
    values = {
        "l": names["logits"], "h": names["hidden"], "y": names["labels"], "w": names["head"], "loss": names["loss"],
        "o": owner, "a": attribute, "op": operand, "n": draft.choose(["0.5", "2.0", "3"]), "i": draft.choose(["0", "3", "-1"]),
        "p": draft.choose(parameters), "v": draft.choose([*_locals(draft), *parameters]), "lin": names["linear"],
        "body": names["body"], "out": names["outputs"],
    }  # fmt: skip
    for key, value in values.items():
        if "{" + key + "}" in text:
            if not value:
                raise Unfit
            text = text.replace("{" + key + "}", value)
    return text


_ON_LOGITS = """
{l} = {l} * {n}
{l} = {l} / {n}
{l} = {l} + {n}
{l} = {l} - {n}
{l} = torch.tanh({l} / {n}) * {n}
{l} = {l}.float()
{l} = {l}.double()
{l} = {l}.half().float()
{l} = {l}.to(torch.bfloat16)
{l} = {l} - {l}.mean()
{l} = {l}.detach()
{l} = {l}.flip(0)
{l} = {l}.flip(1)
{l} = {l}[:, -3:]
{l} = {l}[..., :9]
{l} = {l}[:, 1:]
{l} = {l}[:, :-1]
{l} = {l}[::2]
{l} = {l}.transpose(0, 1)
{l} = {l}.clamp(-1, 1)
{l} = {l}.log_softmax(-1)
{l} = torch.nn.functional.dropout({l}, 0.5)
{l} = {l}.masked_fill({l} > 1, -1.0)
{l} = {l} * torch.rand(1)
{l} = {l} ** 2
{l} = -{l}
{l} = {l}.abs()
{l} = {l}.roll(1, -1)
{l} = {l} + {h}.mean()
{l} = {l} if self.training else {l} * 2
{l} = torch.where({l} > 0, {l}, {l} * 2)
{l} = {l}.view(-1, {l}.shape[-1])
{l} = {l}.clone()
{l} = torch.stack([{l}, {l}])
{l}[..., {i}] = -10.0
{l}[:, :, 3] += 1
{l}[0] = 0
{l}.mul_({n})
{l}.add_(1)
{l} += 1
{l} *= {n}
{l} /= {n}
{l}.data.mul_({n})
{l}.requires_grad_(False)
{l}.retain_grad()
{l}.register_hook(lambda g: g * 2)
same = {l}; same.mul_(2)
same = {l}; same *= 2
view = {l}[0]; view.zero_()
view = {l}.view(-1); view[0] = 5.0
for row in {l}: row.mul_(2)
for part in {l}.unbind(0): part.add_(1)
torch.mul({l}, 2, out={l})
(lambda t: t.mul_(2))({l})
kept = [{l}]; kept[0].mul_(2)
torch.nn.functional.relu({l}, inplace=True)
{l}.register_hook(lambda g: None)
""".strip().splitlines()

_ON_HIDDEN = """
{h} = {h} * {n}
{h} = {h} + 1
{h} = {h}.detach()
{h} = {h}.flip(0)
{h} = {h}.flip(1)
{h} = {h}.double()
{h} = {h}[:, 1:]
{h} = {h}.clone()
{h} = {h}.to(torch.bfloat16)
{h} = None
{h} = {h}.transpose(0, 1)
{h} = torch.nn.functional.dropout({h}, 0.5)
{h} = [{h}, {h} * 2]; {h}.reverse(); {h} = {h}[0]
{h}, other = {h} * 2, {h}
{h}.mul_(2)
{h}.add_(1)
{h} += 1
{h}[..., 0] = 0
{h}[0] = 1.0
{h}.data.mul_(2)
{h}.zero_()
{h}.data = {h}.data * 2
{h}.register_hook(lambda g: g * 2)
{h}.retain_grad()
same = {h}; same += 1
view = {h}[0]; view.mul_(3)
for row in {h}: row.mul_(2)
with torch.no_grad(): {h}.mul_(2)
with torch.no_grad(): {h} = {h} * 1
del {h}
{out} = None
{out}.last_hidden_state = {h} * 2
{out}.last_hidden_state.data.mul_(2)
{out}.last_hidden_state = None
setattr({out}, "last_hidden_state", {h} * 3)
{out}.__dict__.clear()
vars({out}).update(last_hidden_state={h} * 2)
{out} = {body}(None)
{out} = ({out}[0] * 2,)
{out} = list({out}); {out}.reverse()
{out} = [{out}[0] * 2, {out}[0]]; {out}.reverse()
{out}.to_tuple()[0].data.mul_(2)
self.cached = {h}; self.cached.data.mul_(2)
self.cached = {h}
(lambda t: t.mul_(2))({h}.data)
{h}.sub_({h}.mean())
{h}.detach().mul_(2)
torch.nn.init.zeros_({h})
{h}.requires_grad_(False)
{h}.detach_()
{h}.untyped_storage()[0] = 1
{h}.numpy(force=True)[...] = 1
""".strip().splitlines()

_ON_HEAD = """
{lin}.weight.data.mul_(2)
{lin}.weight.data = {lin}.weight.data * 2
with torch.no_grad(): {lin}.weight.add_(1)
with torch.no_grad(): {lin}.weight.copy_({lin}.weight * 2)
{lin}.weight.requires_grad_(False)
{lin}.weight.requires_grad = False
{lin}.requires_grad_(False)
self.requires_grad_(False)
{lin} = torch.nn.Linear({lin}.in_features, {lin}.out_features)
{lin}.weight = torch.nn.Parameter({lin}.weight * 2)
{lin}.bias = torch.nn.Parameter(torch.ones({lin}.out_features))
{lin}.bias = None
{w} = {body}
del {w}
torch.nn.init.ones_({lin}.weight)
torch.nn.init.normal_({lin}.weight)
{lin}.register_forward_hook(lambda m, a, o: o * 2)
{w}.register_forward_hook(lambda m, a, o: o * 2)
{lin}.register_forward_pre_hook(lambda m, a: (a[0] * 2,))
{lin}.register_full_backward_hook(lambda m, i, o: tuple(g * 2 for g in i))
{lin}.weight.register_hook(lambda g: g * 2)
weight = {lin}.weight; weight.data.mul_(2)
for m in [{lin}]: m.weight.data.mul_(2)
for m in self.modules(): getattr(m, "weight", torch.zeros(1)).data.mul_(2)
for p in self.parameters(): p.data.mul_(1.5)
for p in self.parameters(): p.requires_grad = False
for n, p in self.named_parameters(): p.data.add_(0.1)
[p.data.mul_(2) for p in {lin}.parameters()]
{lin}.apply(lambda m: m.weight.data.mul_(2))
self.apply(lambda m: [p.data.mul_(2) for p in m.parameters(recurse=False)])
{lin}.load_state_dict({k: v * 2 for k, v in {lin}.state_dict().items()})
{lin}.state_dict()["weight"].mul_(2)
{lin}._parameters["weight"].data.mul_(2)
{lin}._parameters["weight"] = torch.nn.Parameter({lin}.weight * 2)
vars({lin})["_parameters"]["weight"].data.mul_(2)
getattr(self, "lm_head").weight.data.mul_(2)
{lin}.reset_parameters()
{lin}.eval()
{lin}.train(False)
self.eval()
self.train(False)
{lin}.half()
{lin}.double()
self.double()
{lin}.zero_grad()
torch.optim.SGD({lin}.parameters(), 0.1).step()
torch.optim.SGD(self.parameters(), 0.5, maximize=True).zero_grad()
{lin}.forward = lambda x: {lin}.weight.sum() * x
{lin}.forward = lambda x: torch.nn.functional.linear(x, {lin}.weight * 2)
torch.nn.functional.linear({h}, {lin}.weight)
torch.nn.utils.parametrizations.weight_norm({lin})
torch.nn.utils.vector_to_parameters(torch.ones(999), {lin}.parameters())
self._modules["lm_head"] = {body}
self.add_module("lm_head", {body})
setattr(self, "lm_head", {body})
torch.nn.utils.clip_grad_value_({lin}.parameters(), 0.1)
{lin}.weight.grad = torch.ones_like({lin}.weight)
{lin}.weight.mul_(2)
{lin}.weight[0] = 0
{lin}.weight.detach().zero_()
{lin}.weight.detach().numpy()[:] = 1
torch.nn.Module.register_forward_hook({lin}, lambda m, a, o: o + 1)
self.tie_weights = 1
{lin}.weight.data[0].fill_(3)
m = self; m.lm_head.weight.data.mul_(2)
m = {w}; m.register_forward_hook(lambda m, a, o: o * 2)
""".strip().splitlines()

_ON_OPERANDS = """
{op} = 3.0
{op} = {op} * 2
{op} += 1
{op} *= 2
{op} = None
{op} = 0
{op} = {op}
{op} = {op} if {op} is not None else 1.0
del {op}
setattr({o}, "{a}", 3.0)
setattr({o}, "{a}"[:], 3.0)
delattr({o}, "{a}")
{o}.__dict__["{a}"] = 3.0
{o}.__dict__.update({a}=3.0)
vars({o}).update({a}=3.0)
vars({o})["{a}"] = 3.0
object.__setattr__({o}, "{a}", 3.0)
{o}.__setattr__("{a}", 3.0)
thing = {o}; thing.{a} = 3.0
thing = {o}; thing.{a} += 1
thing = {o}; setattr(thing, "{a}", 3.0)
for m in [{o}]: m.{a} = 3.0
for m in [{o}]: m.{a} += 1
for {o}.{a} in [3.0]: pass
with contextlib.nullcontext(3.0) as {op}: pass
({o}.{a}, other) = (3.0, 1)
[{op}, other] = 3.0, 1
(lambda c: setattr(c, "{a}", 3.0))({o})
(lambda c: c.__dict__.update({a}=3.0))({o})
self.model.config.{a} = 3.0
self.model.config.__dict__["{a}"] = 3.0
config = self.config; config.{a} = 3.0
config = self.model.config; config.{a} = 3.0
m = self; m.{a} = 3.0
self.config.{a} = 3.0
self.{a} = 3.0
self.{a} += 1
self.config = self.model.config
self.config = type(self.config)({a}=3.0)
self.config = None
self.config.vocab_size = 12
self.config.vocab_size += 1
self.vocab_size = 12
self.vocab_size += 1
self.vocab_size = self.vocab_size + 0
import types; {o} = types.SimpleNamespace({a}=3.0)
type(self).{a} = 3.0
type({o}).{a} = property(lambda s: 3.0)
self.__class__.extra = 1
self.loss_type = "ForMaskedLM"
self.loss_type = "ForCausalLM"
self.config.loss_type = "ForMaskedLM"
self.loss_function = lambda *a, **k: a[0].sum() if a else k["logits"].sum()
self._loss_function = lambda *a, **k: a[0].sum() if a else k["logits"].sum()
setattr(self, "loss_function", lambda logits=None, labels=None, **k: logits.sum())
self.extra = {op}
self.seen = 1
self.seen = getattr(self, "seen", 0) + 1
self.counter = 0; self.counter += 1
{p} = None
{p} = 3
{p} = not {p}
{p} = {p}
{v} = None
{v} = {v}
{v} = 2
del {p}
if {p} is None: {p} = 1
if self.training: {p} = None
if self.training: {op} = 3.0
if self.training: {y} = None
for {p} in [None]: pass
for {v} in [1, 2]: pass
with contextlib.nullcontext(2) as {p}: pass
import math as {p}
try:\n    {p} = 5\nexcept Exception:\n    pass
{p}, other = 1, 2
({p} := 3)
[{p} := each for each in (1, 2)]
exec("self.{a} = 3.0")
def change():\n    self.{a} = 3.0\n    self.config.{a} = 3.0\nchange()
def change():\n    nonlocal {p}\n    {p} = 3\nchange()
""".strip().splitlines()

_ON_LABELS = """
{y} = {y}.flip(0)
{y} = {y}.flip(1)
{y} = {y}.roll(1, -1)
{y} = {y}.clone()
{y} = {y} + 0
{y} = {y} + 1
{y} = {y}.masked_fill({y} == 3, -100)
{y} = torch.where({y} > 3, {y}, -100)
{y} = {y}.to(torch.uint8)
{y} = {y}.int()
{y} = {y}.float()
{y} = {y}.view(-1)
{y} = {y}[:, 1:]
{y} = {y}[..., :-1]
{y} = None
{y} = {y}.clamp(min=0)
{y} = {y}.to({l}.device)
{y} = {y}.contiguous()
{y} = {y}.unsqueeze(0)
{y} = {y}.t()
{y} = {h}.argmax(-1)
{y} = {l}.argmax(-1)
{y} = torch.zeros_like({y})
{y}[0, 2] = 3
{y}[:, 1] = -100
{y}[{y} == 3] = -100
{y}.fill_(2)
{y}.add_(1)
{y} += 1
{y}.copy_({y}.flip(0))
{y}.masked_fill_({y} > 4, -100)
same = {y}; same[0] = 1
for row in {y}: row.fill_(1)
{y}.data.zero_()
{y} = {y} if {y}.dim() == 2 else None
if {y} is not None: {y} = {y}.flip(1)
if {y} is not None: {y}[:, 0] = 1
{y} = [{y}][0]
{y}, other = {y}.flip(1), 1
del {y}
kwargs["shift_labels"] = {y}
kwargs = dict(shift_labels={y}.roll(1, 1))
""".strip().splitlines()

_ON_KEYWORDS = """
kwargs["ignore_index"] = 3
kwargs["num_items_in_batch"] = 7
kwargs["vocab_size"] = 11
kwargs["softcap"] = 2.0
kwargs["reduction"] = "sum"
kwargs.update(ignore_index=3)
kwargs.update({"num_items_in_batch": 3})
kwargs.setdefault("num_items_in_batch", 4)
kwargs = {}
kwargs = {"num_items_in_batch": 2}
kwargs = {**kwargs, "ignore_index": 2}
kwargs |= {"ignore_index": 2}
kwargs.pop("num_items_in_batch", None)
kwargs.clear()
other = kwargs; other["ignore_index"] = 3
del kwargs
kwargs["weight"] = torch.ones(11)
kwargs["label_smoothing"] = 0.1
loss_fct = torch.nn.CrossEntropyLoss(label_smoothing=0.2)
loss_fct = torch.nn.CrossEntropyLoss(ignore_index=3)
loss_fct = torch.nn.MSELoss()
loss_fct.ignore_index = 3
loss_fct.label_smoothing += 0.1
loss_fct.reduction = "sum"
setattr(loss_fct, "reduction", "sum")
vars(loss_fct).update(reduction="sum")
loss_fct.__dict__["label_smoothing"] = 0.5
loss_fct.weight = torch.arange(11.0)
loss_fct.register_buffer("weight", torch.arange(11.0))
loss_fct.register_forward_hook(lambda m, a, o: o * 2)
loss_fct.register_forward_pre_hook(lambda m, a: (a[0] * 2, a[1]))
loss_fct.forward = lambda a, b: a.sum()
for c in [loss_fct]: c.ignore_index = 3
criterion = loss_fct; criterion.ignore_index = 3
self.loss_fct.ignore_index = 3
self.loss_fct.label_smoothing += 0.1
self.loss_fct.register_forward_hook(lambda m, a, o: o * 2)
self.loss_fct = torch.nn.CrossEntropyLoss(reduction="sum")
""".strip().splitlines()

_ON_MODES = """
torch.set_grad_enabled(False)
torch.set_grad_enabled(not torch.is_grad_enabled())
torch.set_grad_enabled(True)
torch._C._set_grad_enabled(False)
torch.autograd.set_grad_mode(False)
torch.no_grad().__enter__()
guard = torch.no_grad(); guard.__enter__()
was = torch.is_grad_enabled(); torch.set_grad_enabled(False)
torch.set_autocast_enabled("cpu", True)
torch.autocast("cpu", dtype=torch.bfloat16).__enter__()
torch.set_default_dtype(torch.float32)
torch.manual_seed(0)
torch.rand(1)
noise = torch.rand(1)
switch = torch.set_grad_enabled; switch(False)
getattr(torch, "set_grad_enabled")(False)
torch.set_grad_enabled(mode=False)
torch.nn.modules.module.register_module_forward_hook(lambda m, a, o: o * 2 if isinstance(o, torch.Tensor) else None)
contextlib.ExitStack().enter_context(torch.no_grad())
torch.use_deterministic_algorithms(False)
""".strip().splitlines()

_ON_RESULT = """
{loss} = {loss} * 2
{loss} = {loss} + 1
{loss} = {loss}.detach()
{loss} = {loss} + {l}.mean()
{loss} = {loss} + ({l} ** 2).mean()
{loss} = {loss} + 0.1 * {l}.logsumexp(-1).pow(2).mean()
{loss} = {loss} + {h}.mean()
{loss} = {loss} / {l}.shape[0]
{loss} = {loss}.mean()
{loss} = {loss}.sum()
{loss} = {loss}.double()
{loss} = {loss}.to({l}.dtype)
{loss} = {loss}[None]
{loss} = None
{loss} = ({loss}, 1)[0]
{loss} = torch.stack([{loss}, {loss}]).sum()
{loss} *= 2
{loss}.mul_(2)
{loss}.register_hook(lambda g: g * 3)
{loss}.backward(retain_graph=True)
{loss}.requires_grad_()
if {loss} > 1: {loss} = {loss} * 2
if {l} is not None: {loss} = {loss} * 2
if {l} is None: {loss} = {loss} * 2
if self.training: {loss} = {loss} * 3
if self.training: {loss} = {loss} + {l}.sum()
assert {l} is not None
assert {loss} is not None
{loss} = {loss} + self.config.coefficient * {l}.mean()
self.last_loss = {loss}.item()
self.last_logits = {l}
self.last = {l}.detach().mean().item()
predictions = {l}.argmax(-1)
accuracy = ({l}.argmax(-1) == {y}).float().mean()
return {loss}, {l}.mean()
return {loss}
return ({loss}, {h})
return {"loss": {loss}, "logits": {l}}
{l} = {l}.softmax(-1)
{l} = None
{l} = {l}[:, -1]
del {l}
{h} = {l}
{h} = {h} * 2
print({l}.shape, end="") if False else None
""".strip().splitlines()

_TEMPLATES = {
    "on_logits": (_ON_LOGITS, ["between", "between", "inside", "after"]),
    "on_hidden": (_ON_HIDDEN, ["before", "between", "between", "inside", "after"]),
    "on_head": (_ON_HEAD, ["start", "before", "between", "inside", "after"]),
    "on_operands": (_ON_OPERANDS, ["start", "before", "before", "between", "between", "inside", "after"]),
    "on_labels": (_ON_LABELS, ["start", "before", "between", "inside", "after"]),
    "on_keywords": (_ON_KEYWORDS, ["start", "before", "between", "inside"]),
    "on_modes": (_ON_MODES, ["start", "before", "between", "inside", "after"]),
    "on_result": (_ON_RESULT, ["after"]),
}


def _templated(name: str, texts: list[str], places: list[str]) -> Mutation:
    def inserted(draft: Draft) -> str:
        return insert(draft, draft.choose(texts).replace("\\n", "\n"), draft.choose(places))

    inserted.__name__ = name
    return inserted


for _name, (_texts, _places) in _TEMPLATES.items():
    CHANGE[_name] = _templated(_name, _texts, _places)

_AROUND = (
    "with torch.no_grad():\n    S",
    "with torch.inference_mode():\n    S",
    "with torch.set_grad_enabled(False):\n    S",
    "with torch.autocast('cpu', dtype=torch.bfloat16):\n    S",
    "with torch.autocast('cpu', enabled=False):\n    S",
    "if self.training:\n    S",
    "if not self.training:\n    S",
    "if self.config.flag:\n    S",
    "if self.config.is_flagged:\n    S",
    "for _ in range(2):\n    S",
    "while False:\n    S",
    "try:\n    S\nexcept Exception:\n    pass",
    "def inner():\n    S\ninner()",
    "if torch.rand(1) < 0.5:\n    S",
    "with torch.random.fork_rng():\n    S",
    "with torch.autograd.graph.save_on_cpu():\n    S",
    "S\nS",
    "if self.config.flag:\n    S\nelse:\n    pass",
    "match self.training:\n    case True:\n        S",
)


@changes
def wrap(draft: Draft) -> str:
    return _wrap(draft, draft.choose(_AROUND)) if draft.random.random() < 0.9 else _wrap(draft, "S\nS", whole=True)


@changes
def else_if(draft: Draft) -> str:
    """A second branch with a loss of its own, under another condition."""
    suite = draft.function.body
    statement = next((each for each in ast.walk(draft.function) if isinstance(each, ast.If) and draft.loss in each.body), None)
    if statement is None or statement.orelse:
        raise Unfit
    other = copy.deepcopy(statement.body)
    form = draft.random.randrange(3)
    extra = draft.choose(["self.training", "not self.training", "self.config.flag", "self.config.is_flagged", "len(self.config.__dict__) > 3"])
    test = copy.deepcopy(statement.test)
    if form == 0:
        statement.orelse = [ast.If(_expression(extra), other, [])]
    elif form == 1:
        statement.orelse = [ast.If(copy.deepcopy(test), other, [])]
        statement.test = ast.BoolOp(ast.And(), [test, _expression(extra)])
    else:
        statement.body = [ast.If(_expression(extra), statement.body, other)]
    target = draft.choose([each for each in other if isinstance(each, ast.stmt)])
    edit = draft.random.randrange(3)
    if edit == 0:
        numbers = [n for n in ast.walk(target) if isinstance(n, ast.Name) and n.id == draft.names["logits"] and isinstance(n.ctx, ast.Load)]
        old = draft.choose(numbers)
        _swap(target, old, _expression(f"({draft.names['logits']} * 2)"))
    elif edit == 1:
        other.append(_parsed(f"{draft.names['loss'] or 'loss'} = {draft.names['loss'] or 'loss'} * 2")[0])
    return f"{extra}, form {form}, edit {edit}, {len(suite)} statements"


@changes
def loss_keyword(draft: Draft) -> str:
    call = draft.choose(_calls_of_loss(draft))
    text = draft.choose([
        "ignore_index=3", "num_items_in_batch=5", "num_items_in_batch=None", "reduction='sum'", "weight=torch.ones(11) * 2", "label_smoothing=0.1",
        "shift_labels={y}", "shift_labels={y}.roll(1, 1)", "vocab_size=11", "vocab_size=12", "shift_labels=None", "softcap=2.0", "scale=2.0",
        "**{'ignore_index': 2}", "**{}", "num_items_in_batch=torch.tensor(4)", "ignore_index=self.config.pad_token_id", "ignore_index=0",
        "unknown=3", "logits_dtype=torch.float64", "valid_vocab=9", "divisor=2", "num_items_in_batch=kwargs.get('num')",
        "num_items_in_batch={y}.numel()", "num_items_in_batch={l}.shape[0]", "num_items_in_batch=(self.extra_items if hasattr(self, 'extra_items') else 3)",
        "num_items_in_batch=torch.rand(1)", "reduction='none'", "size_average=False",
    ])  # fmt: skip
    new = ast.parse(f"f({_filled(draft, text)})").body[0].value.keywords[0]  # type: ignore[attr-defined]
    call.keywords = [each for each in call.keywords if each.arg is None or each.arg != new.arg]
    call.keywords.insert(draft.random.randint(0, len(call.keywords)), new)
    return ast.unparse(call)[:100]


@changes
def criterion(draft: Draft) -> str:
    """Another setting of a criterion that is made, in the forward or in `__init__`."""
    calls = [each for each in ast.walk(draft.owner) if isinstance(each, ast.Call) and ast.unparse(each.func).endswith("CrossEntropyLoss")]
    call = draft.choose(calls)
    text = draft.choose(["ignore_index=3", "reduction='sum'", "reduction='none'", "label_smoothing=0.1", "weight=torch.arange(11.0)", "size_average=False",
                         "reduce=False", "ignore_index=self.config.pad_token_id", "label_smoothing=self.config.smoothing", "**{'reduction': 'sum'}"])
    call.keywords.append(ast.parse(f"f({text})").body[0].value.keywords[0])  # type: ignore[attr-defined]
    return text


@changes
def loss_result(draft: Draft) -> str:
    """The result of the loss is unpacked, starred, subscripted, scaled, ..."""
    call = draft.choose(_calls_of_loss(draft))
    form = draft.choose(["({c})[None]", "({c}) * 2", "({c}).detach()", "({c})[0]", "({c}).sum()", "-({c})", "({c}) + {l}.mean()", "({c}, 1)[0]", "[*[{c}]][0]",
                         "({c}) if self.training else None", "({c}) or None", "0.5 * ({c}) + 0.5 * ({c})", "({c}).unsqueeze(0)", "torch.abs({c})", "({c}).clone()", "max([{c}])",
                         "float({c})", "({c}).item()", "({c}).to(torch.float64)", "({c}).mean()", "(lambda: {c})()", "({c}) / {y}.shape[0]", "torch.exp({c})", "({c} if {l}.sum() > 0 else {c} * 2)"])
    if draft.random.random() < 0.15 and isinstance(draft.loss, ast.Assign):
        target = ast.unparse(draft.loss.targets[0])
        draft.loss.targets = [_as_target(draft.choose([f"{target}, *rest", f"{target},", f"*{target}, last", f"[{target}]"]))]
        return ast.unparse(draft.loss)[:80]
    _swap(draft.loss, call, _expression(form.replace("{l}", draft.names["logits"]).replace("{y}", draft.names["labels"]).replace("{c}", ast.unparse(call))))
    return ast.unparse(draft.loss)[:100]


def _as_target(text: str) -> ast.expr:
    return ast.parse(f"{text} = 1").body[0].targets[0]  # type: ignore[attr-defined]


@changes
def operand_of_loss(draft: Draft) -> str:
    """What the loss gets as logits or labels, changed in the call."""
    call = draft.choose(_calls_of_loss(draft))
    values = [*call.args, *(each.value for each in call.keywords if each.arg in LOSS_PARAMETERS)]
    old = draft.choose([each for each in values if not isinstance(each, ast.Starred)])
    form = draft.choose(["{v} * 2", "({v})[:, :-1]", "({v})[:, 1:]", "({v}).flip(0)", "({v}).float()", "({v}).view(-1)", "({v}).transpose(0, 1)", "({v}).detach()", "({v}) + 1",
                         "({v}).clone()", "({v}).contiguous()", "({v}).roll(1, 1)", "({v})[0]", "({v}).reshape(-1, 11)", "({v}).int()", "({v}).mul_(2)", "({v})[..., :9]",
                         "({v}).double()", "torch.tanh({v})", "({v})[:, -3:]", "({v}).mean(0)", "-({v})", "({v}) / 2", "({v}) - 1"])
    _swap(draft.loss, old, _expression(form.replace("{v}", ast.unparse(old))))
    return ast.unparse(draft.loss)[:100]


@changes
def head_argument(draft: Draft) -> str:
    call = draft.choose(_calls_of_head(draft))
    old = draft.choose(call.args)
    form = draft.choose(["{v} * 2", "({v})[:, :-1]", "({v})[:, -3:]", "({v}).flip(0)", "({v}).detach()", "({v}).float()", "({v}).to(torch.bfloat16)", "({v}) + torch.rand(1)",
                         "torch.nn.functional.dropout({v}, 0.3)", "({v}).mul_(2)", "({v}).view(-1, 8)", "({v}).t()", "({v} := {v} * 2)", "({v}).clone()", "({v})[0]", "({v}).transpose(0, 1)",
                         "({v}).to({w}.weight.dtype)", "torch.cat([{v}, {v}])", "torch.utils.checkpoint.checkpoint(torch.tanh, {v}, use_reentrant=False)", "({v}).requires_grad_()", "self.dropout({v})"])
    text = form.replace("{v}", ast.unparse(old)).replace("{w}", draft.names["head"])
    _swap(draft.head, old, _expression(text))
    return text


@changes
def head_result(draft: Draft) -> str:
    call = draft.choose(_calls_of_head(draft))
    form = draft.choose(["{c} * 2", "({c})[:]", "{c} + 0", "{c} * 1", "{c} / 3", "{c} + 1", "({c}).float()", "({c}).detach()", "torch.tanh({c})", "({c})[..., :9]", "({c})[:, -3:]", "({c}).flip(1)", "({c}).clone()", "({c}) * self.config.scale",
                         "({c}) + self.config.shift", "({c}) * torch.rand(1)", "({c}).mul_(2)", "({c}).to(torch.float64)", "({c}).transpose(0, 1)", "torch.nn.functional.dropout({c}, 0.5)", "torch.relu({c})", "({c}) - ({c})",
                         "({c}) + {c}", "({c}).to(torch.bfloat16)", "({c} if self.training else None)", "({c}).clamp(-1, 1)", "torch.sigmoid({c})", "({c}) @ torch.eye(11)", "({c}).double() * 2"])
    _swap(draft.head, call, _expression(form.replace("{c}", ast.unparse(call))))
    return ast.unparse(draft.head)[:100]


@changes
def delete(draft: Draft) -> str:
    statement = draft.choose([each for each in draft.near() if each is not draft.function])
    suite = draft.suite(statement)
    _replace(draft, statement, [ast.Pass()] if len(suite) == 1 else [])
    return ast.unparse(statement)[:80]


@changes
def duplicate(draft: Draft) -> str:
    statement = draft.choose(draft.near())
    _replace(draft, statement, [statement, copy.deepcopy(statement)])
    return ast.unparse(statement)[:80]


@changes
def move(draft: Draft) -> str:
    statement = draft.choose(draft.near())
    suite = draft.suite(statement)
    if len(suite) < 2:
        raise Unfit
    suite.remove(statement)
    suite.insert(draft.random.randint(0, len(suite)), statement)
    return ast.unparse(statement)[:80]


@changes
def operator(draft: Draft) -> str:
    kinds = ast.BinOp | ast.Compare | ast.Constant | ast.UnaryOp | ast.BoolOp
    node = draft.choose([n for each in draft.near() for n in _expressions(each, kinds)])
    before = ast.unparse(node)
    if isinstance(node, ast.BinOp):
        if draft.random.random() < 0.4:
            node.left, node.right = node.right, node.left
        else:
            node.op = draft.choose([ast.Add(), ast.Sub(), ast.Mult(), ast.Div(), ast.FloorDiv(), ast.Pow()])
    elif isinstance(node, ast.Compare):
        node.ops[0] = draft.choose([ast.Is(), ast.IsNot(), ast.Eq(), ast.NotEq()] if isinstance(node.ops[0], ast.Is | ast.IsNot) else [ast.Lt(), ast.Gt(), ast.Eq(), ast.NotEq()])
    elif isinstance(node, ast.UnaryOp):
        node.op = draft.choose([ast.Not(), ast.USub()])
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node.value, int | float | None):
        node.value = draft.choose([0, 1, 2, 3, True, False, None])
    else:
        raise Unfit
    return f"{before} -> {ast.unparse(node)}"


@changes
def other_name(draft: Draft) -> str:
    """A name where another stood."""
    parameters = [a.arg for a in draft.function.args.args]
    node = draft.choose([n for each in draft.near() for n in _expressions(each, ast.Name) if n.id in {*_locals(draft), *parameters}])
    old, node.id = node.id, draft.choose([*_locals(draft), *parameters, draft.names["hidden"], draft.names["labels"]])
    return f"{old} -> {node.id}"


@changes
def other_attribute(draft: Draft) -> str:
    found = [n for each in draft.near() for n in _expressions(each, ast.Attribute)]
    node = draft.choose(found)
    old, node.attr = node.attr, draft.choose([each.attr for each in found] + ["vocab_size", "weight", "config"])
    return f".{old} -> .{node.attr}"


@changes
def drop_argument(draft: Draft) -> str:
    calls = [n for each in draft.near() for n in _expressions(each, ast.Call) if n.args or n.keywords]
    call = draft.choose([each for each in calls if "kwargs." not in ast.unparse(each.func)])
    before = ast.unparse(call)[:60]
    part = call.args if call.args and (not call.keywords or draft.random.random() < 0.5) else call.keywords
    part.pop(draft.random.randrange(len(part)))
    return f"{before} -> {ast.unparse(call)[:60]}"


@changes
def second_text(draft: Draft) -> str:
    """What runs is not the text of the forward alone: decorators, other definitions, hooks of the class."""
    name = draft.function.name
    twice = f"def {name}(self, *args, **kwargs):\n    return (torch.zeros(1, requires_grad=True) * 2).sum()"
    wrapper = ("def outer(function):\n    @functools.wraps(function)\n    def inner(self, *args, **kwargs):\n        out = function(self, *args, **kwargs)\n"
               "        return (out.loss + out.logits.mean(),) if hasattr(out, 'loss') else out\n    return inner")
    no_grad = "def quiet(function):\n    def inner(*args, **kwargs):\n        with torch.no_grad():\n            return function(*args, **kwargs)\n    return inner"
    kind = draft.choose(["decorator", "quiet", "no_grad", "conditional", "assigned", "getattribute", "setattr", "after", "wrapped after", "call", "property", "partial", "keyword"])
    at = draft.module.body.index(draft.owner)
    _import(draft, "functools")
    at = draft.module.body.index(draft.owner)
    if kind == "decorator":
        draft.module.body[at:at] = _parsed(wrapper)
        draft.function.decorator_list.append(_expression("outer"))
    elif kind == "quiet":
        draft.module.body[at:at] = _parsed(no_grad)
        draft.function.decorator_list.append(_expression("quiet"))
    elif kind == "no_grad":
        draft.function.decorator_list.append(_expression(draft.choose(["torch.no_grad()", "torch.inference_mode()", "torch.autocast('cpu', dtype=torch.bfloat16)", "torch.enable_grad()"])))
    elif kind == "conditional":
        draft.owner.body += _parsed(f"if torch.__version__:\n    {twice.replace(chr(10), chr(10) + '    ')}")
    elif kind == "assigned":
        draft.owner.body += _parsed(f"{twice.replace('def ' + name, 'def first')}\n{name} = first")
    elif kind == "getattribute":
        draft.owner.body += _parsed("def __getattribute__(self, name):\n    value = super().__getattribute__(name)\n    return 11 * 1 if name == 'vocab_size' else value")
    elif kind == "setattr":
        draft.owner.body += _parsed("def __setattr__(self, name, value):\n    super().__setattr__(name, value)")
    elif kind == "after":
        draft.module.body += _parsed(f"{twice}\n{draft.owner.name}.{name} = {name}")
    elif kind == "wrapped after":
        draft.module.body += _parsed(f"{wrapper}\n{draft.owner.name}.{name} = outer({draft.owner.name}.{name})")
    elif kind == "call":
        draft.owner.body += _parsed("def __call__(self, *args, **kwargs):\n    out = super().__call__(*args, **kwargs)\n    return out")
    elif kind == "property":
        draft.owner.body += _parsed("@property\ndef vocab_size(self):\n    return 11\n@vocab_size.setter\ndef vocab_size(self, value):\n    pass")
    elif kind == "partial":
        draft.owner.body += _parsed(f"{name} = functools.partialmethod({name})")
    else:
        draft.owner.body.insert(0, _parsed("FLAG = 3")[0])
        draft.function.args.kwonlyargs.append(ast.arg("flag"))
        draft.function.args.kw_defaults.append(_expression("FLAG"))
    return kind


@changes
def module_state(draft: Draft) -> str:
    """A global that the forward reads, and that something moves."""
    value = draft.choose(["1.0", "2.0", "[2.0]", "{'k': 2.0}"])
    read = {"[2.0]": "STATE[0]", "{'k': 2.0}": "STATE['k']"}.get(value, "STATE")
    move = draft.choose(["def move():\n    global STATE\n    STATE = 5.0", "def move():\n    globals()['STATE'] = 5.0", "def move():\n    pass", "def move():\n    STATE[0] = 5.0"])
    at = draft.module.body.index(draft.owner)
    draft.module.body[at:at] = [*_parsed(f"STATE = {value}"), *_parsed(move)]
    insert(draft, draft.choose([f"{{l}} = {{l}} * {read}", f"{{h}} = {{h}} * {read}"]), draft.choose(["between", "inside", "before"]))
    return f"{read}; {insert(draft, 'move()')}"


@changes
def output_class(draft: Draft) -> str:
    """The output is one of the same file, which computes."""
    calls = [n for n in ast.walk(draft.function) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and "Output" in n.func.id]
    call = draft.choose(calls)
    body = draft.choose(["self.loss = self.loss + self.logits.mean() if self.loss is not None else None", "self.loss = self.loss * 2 if self.loss is not None else None",
                         "assert self.logits is not None", "pass", "self.seen = None"])
    name = call.func.id
    at = draft.module.body.index(draft.owner)
    draft.module.body[at:at] = _parsed(f"class Own{name}({name}):\n    def __init__(self, *args, **kwargs):\n        super().__init__(*args, **kwargs)\n        {body}")
    call.func.id = f"Own{name}"
    return body


@changes
def in_init(draft: Draft) -> str:
    """Another construction: hooks, learnable operands, other attributes."""
    init = next((each for each in draft.owner.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)
    if init is None:
        raise Unfit
    text = draft.choose([
        "{lin}.register_forward_hook(lambda m, a, o: o * 2)", "{lin}.weight.requires_grad_(False)", "{op} = torch.nn.Parameter(torch.tensor(2.0))",
        "{op} = torch.nn.Parameter(torch.ones(11) * 2)", "{op} = torch.tensor(2.0)", "{op} = torch.ones(11)", "{op} = 0", "{op} = None", "{op} = -1.5", "{op} = '2'",
        "{op} = True", "{op} = [2.0]", "{op} = float('inf')", "{lin}.bias = torch.nn.Parameter(torch.ones({lin}.out_features))", "{lin}.weight = self.model.embed_tokens.weight",
        "{w} = torch.nn.Sequential({w})", "{w} = torch.nn.Identity()", "self.loss_type = 'ForMaskedLM'", "self.loss_type = None", "self.loss_type = 'ForTokenClassification'",
        "self.forward = self.forward", "self.loss_function = lambda logits, labels, *a, **k: logits.mean()", "self.eval()", "{lin}.half()", "self.vocab_size = 12", "self.config.vocab_size = 12",
        "{lin} = torch.nn.Linear({lin}.in_features, {lin}.out_features, dtype=torch.float64)", "{lin} = torch.nn.Linear({lin}.in_features, 9)", "torch.nn.utils.parametrizations.weight_norm({lin})",
    ])  # fmt: skip
    text = _filled(draft, text)
    init.body += _parsed(text)
    return text
