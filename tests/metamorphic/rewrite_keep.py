"""Rewrites that keep the meaning of a forward: it must be matched as before or refused, and give the same numbers."""

from __future__ import annotations

import ast
import copy
import re

from rewrite_draft import (
    LOSS_PARAMETERS,
    Draft,
    Unfit,
    assigned_name,
    calls_of_head,
    calls_of_loss,
    evaluated_here,
    expression_of,
    expressions_in,
    following,
    fresh_name,
    insert,
    keeps,
    local_names,
    names_in,
    put,
    put_expression,
    statements_of,
    stored_attributes,
    wrap_in,
)


@keeps
def rename_local(draft: Draft) -> str:
    old = draft.choose(local_names(draft))
    new = fresh_name(
        draft, draft.choose(["x", "scores", "h", "result", "logits", "hidden_states", "loss", "outputs", "labels_"])
    )
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
    statement = draft.choose([each for each in draft.near() if evaluated_here(each)])
    (value,) = evaluated_here(statement)
    inner = [
        each for each in expressions_in(value, ast.expr) if not isinstance(each, ast.Starred | ast.Constant | ast.Slice)
    ]
    inner = [each for each in inner if each is value or _is_first(value, each)]
    old = draft.choose(inner)
    name = fresh_name(draft, "part")
    new = ast.Assign([ast.Name(name, ast.Store())], copy.deepcopy(old))
    put_expression(statement, old, ast.Name(name, ast.Load()))
    put(draft, statement, [new, statement])
    if isinstance(new.value, ast.Call) and statement is draft.head and draft.names["head"] in ast.unparse(new.value):
        draft.head = new
    return ast.unparse(new)


def _is_first(value: ast.expr, inner: ast.expr) -> bool:
    """Whether nothing but names and attributes is evaluated before an expression, and nothing decides about it."""
    lazy = [
        n
        for n in ast.walk(value)
        if isinstance(
            n, ast.BoolOp | ast.IfExp | ast.ListComp | ast.GeneratorExp | ast.DictComp | ast.Compare | ast.NamedExpr
        )
    ]
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
    pairs = [
        (one, two)
        for one in near
        if (name := assigned_name(one)) and _is_plain(one.value)  # type: ignore[attr-defined]
        for two in following(draft, one)
        if name in {n.id for n in expressions_in(two, ast.Name)}
    ]
    one, two = draft.choose(pairs)
    name = assigned_name(one)
    uses = [n for n in ast.walk(draft.function) if isinstance(n, ast.Name) and n.id == name]
    here = [n for e in evaluated_here(two) for n in expressions_in(e, ast.Name) if n.id == name]
    if not here or len(uses) != len(here) + 1:
        raise Unfit
    for use in here:
        put_expression(two, use, copy.deepcopy(one.value))
    put(draft, one, [])
    return f"{ast.unparse(one)} into {ast.unparse(two)[:60]}"


def _is_plain(value: ast.expr) -> bool:
    return all(isinstance(n, ast.Name | ast.Attribute | ast.Constant | ast.expr_context) for n in ast.walk(value))


@keeps
def swap_independent(draft: Draft) -> str:
    """Two assignments of which neither reads or writes what the other writes, and one of which only reads names."""
    pairs = []
    for one in draft.near():
        for two in following(draft, one):
            a, b = assigned_name(one), assigned_name(two)
            if a and b and a not in names_in(two) and b not in names_in(one):
                plain = [
                    all(isinstance(n, ast.Name | ast.Constant | ast.expr_context) for n in ast.walk(each.value))
                    for each in (one, two)
                ]  # type: ignore[attr-defined]
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
    return wrap_in(draft, draft.choose(_WRAPPED))


@keeps
def helper_method(draft: Draft) -> str:
    """The value of an assignment, from a method of its own."""
    statement = draft.choose(
        [
            each
            for each in draft.near()
            if assigned_name(each)
            and not any(isinstance(n, ast.NamedExpr | ast.Yield | ast.Starred) for n in ast.walk(each))
        ]
    )
    bound = {a.arg for a in ast.walk(draft.function.args) if isinstance(a, ast.arg)} | set(local_names(draft))
    names = sorted(({n.id for n in expressions_in(statement.value, ast.Name)} & bound) - {"self"})
    inside = {n.id for n in ast.walk(statement.value) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    if inside or "super" in names_in(statement.value):
        raise Unfit
    name = fresh_name(draft, draft.choose(["_helper", "project", "compute"]))
    arguments = ", ".join(["self", *names])
    method = statements_of(f"def {name}({arguments}):\n    return {ast.unparse(statement.value)}")[0]
    draft.owner.body.insert(draft.owner.body.index(draft.function), method)
    form = draft.choose(["self.{0}({1})", "self.{0}({2})"])
    statement.value = expression_of(form.format(name, ", ".join(names), ", ".join(f"{each}={each}" for each in names)))
    return ast.unparse(method).replace("\n", " ")[:90]


@keeps
def walrus(draft: Draft) -> str:
    statement = draft.choose([each for each in draft.near() if assigned_name(each)])
    new = ast.Expr(ast.NamedExpr(ast.Name(assigned_name(statement), ast.Store()), statement.value))
    after = following(draft, statement)
    if after and draft.random.random() < 0.6:
        two = after[0]
        uses = [
            n
            for e in evaluated_here(two)
            for n in expressions_in(e, ast.Name)
            if n.id == assigned_name(statement) and _is_first(e, n)
        ]
        first = [n for n in uses if n is uses[0]]
        if first and not isinstance(two, ast.FunctionDef):
            put_expression(two, first[0], new.value)
            put(draft, statement, [])
            if statement is draft.head:
                draft.head = two
            return f"in {ast.unparse(two)[:70]}"
    put(draft, statement, [new])
    if statement is draft.head:
        draft.head = new
    if statement is draft.loss:
        draft.loss = new
    return ast.unparse(new)[:80]


@keeps
def keywords(draft: Draft) -> str:
    """A positional argument by its name, or the other way round."""
    call = draft.choose(calls_of_loss(draft))
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


@keeps
def head_spelled_otherwise(draft: Draft) -> str:
    call = draft.choose(calls_of_head(draft))
    head = draft.names["head"]
    owner, _, attribute = head.rpartition(".")
    if len(call.args) != 1 or call.keywords or not owner:
        raise Unfit
    argument = ast.unparse(call.args[0])
    form = draft.choose(
        [
            "{h}.forward({a})",
            "{h}.__call__({a})",
            "getattr({o}, '{n}')({a})",
            "{h}(*[{a}])",
            "(lambda z: {h}(z))({a})",
            "{h}({a}).contiguous()",
            "{h}(({a}))",
            "{h}(input={a})",
        ]
    )
    if "input=" in form and draft.names["composite"]:
        raise Unfit
    text = form.format(h=head, o=owner, n=attribute, a=argument)
    put_expression(draft.head, call, expression_of(text))
    return text


@keeps
def early_return(draft: Draft) -> str:
    """`if c: return x` and the rest -> `else:` with the rest, or the other way round."""
    for suite in [draft.function.body, draft.suite(draft.head)]:
        for i, each in enumerate(suite):
            if (
                isinstance(each, ast.If)
                and not each.orelse
                and isinstance(each.body[-1], ast.Return)
                and suite[i + 1 :]
            ):
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
                statement.test = draft.choose(
                    [
                        ast.Compare(none, [ast.IsNot()], [left]),
                        ast.UnaryOp(ast.Not(), ast.Compare(left, [ast.Is()], [none])),
                    ]
                )
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
    if path in stored_attributes(draft):
        raise Unfit
    name = fresh_name(draft, "alias")
    uses = [n for n in expressions_in(draft.function, ast.Attribute | ast.Name) if ast.unparse(n) == path]
    uses = [n for n in uses if n is not None]
    if not uses or ("super" in names_in(draft.function) and path == "self"):
        raise Unfit
    some = uses if draft.random.random() < 0.5 else [draft.choose(uses)]
    for use in some:
        for statement in draft.function.body:
            put_expression(statement, use, ast.Name(name, ast.Load()))
    start = 1 if ast.get_docstring(draft.function) else 0
    draft.function.body.insert(start, statements_of(f"{name} = {path}")[0])
    return f"{name} = {path} ({len(some)} of {len(uses)})"


@keeps
def tuple_assignment(draft: Draft) -> str:
    pairs = [
        (one, two)
        for one in draft.near()
        if assigned_name(one)
        for two in following(draft, one)
        if assigned_name(two)
        and assigned_name(one) not in names_in(two)
        and assigned_name(two) not in names_in(one.value)
    ]  # type: ignore[attr-defined]
    one, two = draft.choose(pairs)
    text = f"{assigned_name(one)}, {assigned_name(two)} = {ast.unparse(one.value)}, {ast.unparse(two.value)}"
    new = statements_of(text)[0]
    for each in (one, two):
        if each is draft.head:
            draft.head = new
        if each is draft.loss:
            draft.loss = new
    put(draft, two, [])
    put(draft, one, [new])
    return text[:80]


@keeps
def noise(draft: Draft) -> str:
    """A statement that changes nothing, somewhere near."""
    text = draft.choose(
        [
            "pass",
            "'text'",
            "unused = 1",
            "unused = self.config",
            "assert self is not None",
            "import math",
            "unused = [1, 2]",
            "global_step = 0",
            "def unused_function(x):\n    return x",
            "unused = {logits!r}",
            "del_me = 1; del del_me",
            "unused = {h}",
            "x_shape = {h}.shape",
            "unused = lambda: {h}",
            "batch, *_ = {h}.shape",
            "unused = {y}",
            "if False:\n    {h} = None",
            "if False:\n    {y} = None",
            "unused = type(self)",
            "print(end='')",
            "unused = {l} if False else None",
            "unused = {l}.shape[-1]",
            "unused = {l}.dtype",
            "unused = {l} is None",
            "kept = [{h}]",
            "for unused in ():\n    pass",
            "unused: int = 3",
        ]
    )
    after = ["between", "inside", "after"]
    places = after if "{l}" in text else ["before", *after] if "{h}" in text else ["start", "before", *after]
    return insert(draft, text.replace("{logits!r}", "'logits'"), draft.choose(places))


@keeps
def through_value(draft: Draft) -> str:
    """The value of an assignment by a detour."""
    statement = draft.choose(
        [
            each
            for each in draft.near()
            if assigned_name(each) and not any(isinstance(n, ast.NamedExpr) for n in ast.walk(each))
        ]
    )
    form = draft.choose(
        [
            "(lambda: {v})()",
            "{v} if True else None",
            "[{v}][0]",
            "({v},)[0]",
            "{{'v': {v}}}['v']",
            "next(iter([{v}]))",
            "(None or {v})",
            "({v})",
            "max([{v}], key=id)",
            "[*[{v}]][-1]",
        ]
    )
    if "super" in names_in(statement.value) or (form == "(None or {v})" and "self" not in names_in(statement.value)):
        raise Unfit
    if form == "(None or {v})":
        raise Unfit
    statement.value = expression_of(form.format(v=ast.unparse(statement.value)))
    return ast.unparse(statement)[:80]


@keeps
def augment(draft: Draft) -> str:
    """`x = x * a` <-> `x *= a` on a scalar; on a tensor it is an in-place edit, which autograd allows on a product."""
    for each in draft.near():
        match each:
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.BinOp(left=ast.Name(id=left), op=op, right=right)
            ) if name == left:
                put(draft, each, [ast.AugAssign(ast.Name(name, ast.Store()), op, right)])
                return ast.unparse(each)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                put(
                    draft,
                    each,
                    [ast.Assign([ast.Name(name, ast.Store())], ast.BinOp(ast.Name(name, ast.Load()), op, value))],
                )
                return ast.unparse(each)
    raise Unfit


@keeps
def arguments_in_a_dict(draft: Draft) -> str:
    call = draft.choose(calls_of_loss(draft))
    if not call.keywords or any(each.arg is None for each in call.keywords):
        raise Unfit
    spelled = ", ".join(f"{each.arg}={ast.unparse(each.value)}" for each in call.keywords)
    call.keywords = [ast.keyword(None, expression_of(f"dict({spelled})"))]
    return spelled[:70]
