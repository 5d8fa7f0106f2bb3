"""Rewrites that change the meaning of a forward: it must be refused, or do the same when it is fused."""

from __future__ import annotations

import ast
import copy

from rewrite_draft import (
    CHANGE,
    LOSS_PARAMETERS,
    Draft,
    Mutation,
    Unfit,
    calls_of_head,
    calls_of_loss,
    changes,
    expression_of,
    expressions_in,
    filled,
    import_module,
    insert,
    local_names,
    put,
    put_expression,
    statements_of,
    wrap_in,
)
from rewrite_statements import ON_HEAD, ON_HIDDEN, ON_KEYWORDS, ON_LABELS, ON_LOGITS, ON_MODES, ON_OPERANDS, ON_RESULT

_TEMPLATES = {
    "on_logits": (ON_LOGITS, ["between", "between", "inside", "after"]),
    "on_hidden": (ON_HIDDEN, ["before", "between", "between", "inside", "after"]),
    "on_head": (ON_HEAD, ["start", "before", "between", "inside", "after"]),
    "on_operands": (ON_OPERANDS, ["start", "before", "before", "between", "between", "inside", "after"]),
    "on_labels": (ON_LABELS, ["start", "before", "between", "inside", "after"]),
    "on_keywords": (ON_KEYWORDS, ["start", "before", "between", "inside"]),
    "on_modes": (ON_MODES, ["start", "before", "between", "inside", "after"]),
    "on_result": (ON_RESULT, ["after"]),
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
    return wrap_in(draft, draft.choose(_AROUND)) if draft.random.random() < 0.9 else wrap_in(draft, "S\nS", whole=True)


@changes
def else_if(draft: Draft) -> str:
    """A second branch with a loss of its own, under another condition."""
    suite = draft.function.body
    statement = next(
        (each for each in ast.walk(draft.function) if isinstance(each, ast.If) and draft.loss in each.body), None
    )
    if statement is None or statement.orelse:
        raise Unfit
    other = copy.deepcopy(statement.body)
    form = draft.random.randrange(3)
    extra = draft.choose(
        [
            "self.training",
            "not self.training",
            "self.config.flag",
            "self.config.is_flagged",
            "len(self.config.__dict__) > 3",
        ]
    )
    test = copy.deepcopy(statement.test)
    if form == 0:
        statement.orelse = [ast.If(expression_of(extra), other, [])]
    elif form == 1:
        statement.orelse = [ast.If(copy.deepcopy(test), other, [])]
        statement.test = ast.BoolOp(ast.And(), [test, expression_of(extra)])
    else:
        statement.body = [ast.If(expression_of(extra), statement.body, other)]
    target = draft.choose([each for each in other if isinstance(each, ast.stmt)])
    edit = draft.random.randrange(3)
    if edit == 0:
        numbers = [
            n
            for n in ast.walk(target)
            if isinstance(n, ast.Name) and n.id == draft.names["logits"] and isinstance(n.ctx, ast.Load)
        ]
        old = draft.choose(numbers)
        put_expression(target, old, expression_of(f"({draft.names['logits']} * 2)"))
    elif edit == 1:
        other.append(statements_of(f"{draft.names['loss'] or 'loss'} = {draft.names['loss'] or 'loss'} * 2")[0])
    return f"{extra}, form {form}, edit {edit}, {len(suite)} statements"


@changes
def loss_keyword(draft: Draft) -> str:
    call = draft.choose(calls_of_loss(draft))
    text = draft.choose(
        [
            "ignore_index=3",
            "num_items_in_batch=5",
            "num_items_in_batch=None",
            "reduction='sum'",
            "weight=torch.ones(11) * 2",
            "label_smoothing=0.1",
            "shift_labels={y}",
            "shift_labels={y}.roll(1, 1)",
            "vocab_size=11",
            "vocab_size=12",
            "shift_labels=None",
            "softcap=2.0",
            "scale=2.0",
            "**{'ignore_index': 2}",
            "**{}",
            "num_items_in_batch=torch.tensor(4)",
            "ignore_index=self.config.pad_token_id",
            "ignore_index=0",
            "unknown=3",
            "logits_dtype=torch.float64",
            "valid_vocab=9",
            "divisor=2",
            "num_items_in_batch=kwargs.get('num')",
            "num_items_in_batch={y}.numel()",
            "num_items_in_batch={l}.shape[0]",
            "num_items_in_batch=(self.extra_items if hasattr(self, 'extra_items') else 3)",
            "num_items_in_batch=torch.rand(1)",
            "reduction='none'",
            "size_average=False",
        ]
    )
    new = ast.parse(f"f({filled(draft, text)})").body[0].value.keywords[0]  # type: ignore[attr-defined]
    call.keywords = [each for each in call.keywords if each.arg is None or each.arg != new.arg]
    call.keywords.insert(draft.random.randint(0, len(call.keywords)), new)
    return ast.unparse(call)[:100]


@changes
def criterion(draft: Draft) -> str:
    """Another setting of a criterion that is made, in the forward or in `__init__`."""
    calls = [
        each
        for each in ast.walk(draft.owner)
        if isinstance(each, ast.Call) and ast.unparse(each.func).endswith("CrossEntropyLoss")
    ]
    call = draft.choose(calls)
    text = draft.choose(
        [
            "ignore_index=3",
            "reduction='sum'",
            "reduction='none'",
            "label_smoothing=0.1",
            "weight=torch.arange(11.0)",
            "size_average=False",
            "reduce=False",
            "ignore_index=self.config.pad_token_id",
            "label_smoothing=self.config.smoothing",
            "**{'reduction': 'sum'}",
        ]
    )
    call.keywords.append(ast.parse(f"f({text})").body[0].value.keywords[0])  # type: ignore[attr-defined]
    return text


@changes
def loss_result(draft: Draft) -> str:
    """The result of the loss is unpacked, starred, subscripted, scaled, ..."""
    call = draft.choose(calls_of_loss(draft))
    form = draft.choose(
        [
            "({c})[None]",
            "({c}) * 2",
            "({c}).detach()",
            "({c})[0]",
            "({c}).sum()",
            "-({c})",
            "({c}) + {l}.mean()",
            "({c}, 1)[0]",
            "[*[{c}]][0]",
            "({c}) if self.training else None",
            "({c}) or None",
            "0.5 * ({c}) + 0.5 * ({c})",
            "({c}).unsqueeze(0)",
            "torch.abs({c})",
            "({c}).clone()",
            "max([{c}])",
            "float({c})",
            "({c}).item()",
            "({c}).to(torch.float64)",
            "({c}).mean()",
            "(lambda: {c})()",
            "({c}) / {y}.shape[0]",
            "torch.exp({c})",
            "({c} if {l}.sum() > 0 else {c} * 2)",
        ]
    )
    if draft.random.random() < 0.15 and isinstance(draft.loss, ast.Assign):
        target = ast.unparse(draft.loss.targets[0])
        draft.loss.targets = [
            _as_target(draft.choose([f"{target}, *rest", f"{target},", f"*{target}, last", f"[{target}]"]))
        ]
        return ast.unparse(draft.loss)[:80]
    put_expression(
        draft.loss,
        call,
        expression_of(
            form.replace("{l}", draft.names["logits"])
            .replace("{y}", draft.names["labels"])
            .replace("{c}", ast.unparse(call))
        ),
    )
    return ast.unparse(draft.loss)[:100]


def _as_target(text: str) -> ast.expr:
    return ast.parse(f"{text} = 1").body[0].targets[0]  # type: ignore[attr-defined]


@changes
def operand_of_loss(draft: Draft) -> str:
    """What the loss gets as logits or labels, changed in the call."""
    call = draft.choose(calls_of_loss(draft))
    values = [*call.args, *(each.value for each in call.keywords if each.arg in LOSS_PARAMETERS)]
    old = draft.choose([each for each in values if not isinstance(each, ast.Starred)])
    form = draft.choose(
        [
            "{v} * 2",
            "({v})[:, :-1]",
            "({v})[:, 1:]",
            "({v}).flip(0)",
            "({v}).float()",
            "({v}).view(-1)",
            "({v}).transpose(0, 1)",
            "({v}).detach()",
            "({v}) + 1",
            "({v}).clone()",
            "({v}).contiguous()",
            "({v}).roll(1, 1)",
            "({v})[0]",
            "({v}).reshape(-1, 11)",
            "({v}).int()",
            "({v}).mul_(2)",
            "({v})[..., :9]",
            "({v}).double()",
            "torch.tanh({v})",
            "({v})[:, -3:]",
            "({v}).mean(0)",
            "-({v})",
            "({v}) / 2",
            "({v}) - 1",
        ]
    )
    put_expression(draft.loss, old, expression_of(form.replace("{v}", ast.unparse(old))))
    return ast.unparse(draft.loss)[:100]


@changes
def head_argument(draft: Draft) -> str:
    call = draft.choose(calls_of_head(draft))
    old = draft.choose(call.args)
    form = draft.choose(
        [
            "{v} * 2",
            "({v})[:, :-1]",
            "({v})[:, -3:]",
            "({v}).flip(0)",
            "({v}).detach()",
            "({v}).float()",
            "({v}).to(torch.bfloat16)",
            "({v}) + torch.rand(1)",
            "torch.nn.functional.dropout({v}, 0.3)",
            "({v}).mul_(2)",
            "({v}).view(-1, 8)",
            "({v}).t()",
            "({v} := {v} * 2)",
            "({v}).clone()",
            "({v})[0]",
            "({v}).transpose(0, 1)",
            "({v}).to({w}.weight.dtype)",
            "torch.cat([{v}, {v}])",
            "torch.utils.checkpoint.checkpoint(torch.tanh, {v}, use_reentrant=False)",
            "({v}).requires_grad_()",
            "self.dropout({v})",
        ]
    )
    text = form.replace("{v}", ast.unparse(old)).replace("{w}", draft.names["head"])
    put_expression(draft.head, old, expression_of(text))
    return text


@changes
def head_result(draft: Draft) -> str:
    call = draft.choose(calls_of_head(draft))
    form = draft.choose(
        [
            "{c} * 2",
            "({c})[:]",
            "{c} + 0",
            "{c} * 1",
            "{c} / 3",
            "{c} + 1",
            "({c}).float()",
            "({c}).detach()",
            "torch.tanh({c})",
            "({c})[..., :9]",
            "({c})[:, -3:]",
            "({c}).flip(1)",
            "({c}).clone()",
            "({c}) * self.config.scale",
            "({c}) + self.config.shift",
            "({c}) * torch.rand(1)",
            "({c}).mul_(2)",
            "({c}).to(torch.float64)",
            "({c}).transpose(0, 1)",
            "torch.nn.functional.dropout({c}, 0.5)",
            "torch.relu({c})",
            "({c}) - ({c})",
            "({c}) + {c}",
            "({c}).to(torch.bfloat16)",
            "({c} if self.training else None)",
            "({c}).clamp(-1, 1)",
            "torch.sigmoid({c})",
            "({c}) @ torch.eye(11)",
            "({c}).double() * 2",
        ]
    )
    put_expression(draft.head, call, expression_of(form.replace("{c}", ast.unparse(call))))
    return ast.unparse(draft.head)[:100]


@changes
def delete(draft: Draft) -> str:
    statement = draft.choose([each for each in draft.near() if each is not draft.function])
    suite = draft.suite(statement)
    put(draft, statement, [ast.Pass()] if len(suite) == 1 else [])
    return ast.unparse(statement)[:80]


@changes
def duplicate(draft: Draft) -> str:
    statement = draft.choose(draft.near())
    put(draft, statement, [statement, copy.deepcopy(statement)])
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
    node = draft.choose([n for each in draft.near() for n in expressions_in(each, kinds)])
    before = ast.unparse(node)
    if isinstance(node, ast.BinOp):
        if draft.random.random() < 0.4:
            node.left, node.right = node.right, node.left
        else:
            node.op = draft.choose([ast.Add(), ast.Sub(), ast.Mult(), ast.Div(), ast.FloorDiv(), ast.Pow()])
    elif isinstance(node, ast.Compare):
        node.ops[0] = draft.choose(
            [ast.Is(), ast.IsNot(), ast.Eq(), ast.NotEq()]
            if isinstance(node.ops[0], ast.Is | ast.IsNot)
            else [ast.Lt(), ast.Gt(), ast.Eq(), ast.NotEq()]
        )
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
    node = draft.choose(
        [
            n
            for each in draft.near()
            for n in expressions_in(each, ast.Name)
            if n.id in {*local_names(draft), *parameters}
        ]
    )
    old, node.id = (
        node.id,
        draft.choose([*local_names(draft), *parameters, draft.names["hidden"], draft.names["labels"]]),
    )
    return f"{old} -> {node.id}"


@changes
def other_attribute(draft: Draft) -> str:
    found = [n for each in draft.near() for n in expressions_in(each, ast.Attribute)]
    node = draft.choose(found)
    old, node.attr = node.attr, draft.choose([each.attr for each in found] + ["vocab_size", "weight", "config"])
    return f".{old} -> .{node.attr}"


@changes
def drop_argument(draft: Draft) -> str:
    calls = [n for each in draft.near() for n in expressions_in(each, ast.Call) if n.args or n.keywords]
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
    wrapper = (
        "def outer(function):\n    @functools.wraps(function)\n    def inner(self, *args, **kwargs):\n"
        "        out = function(self, *args, **kwargs)\n"
        "        return (out.loss + out.logits.mean(),) if hasattr(out, 'loss') else out\n    return inner"
    )
    no_grad = (
        "def quiet(function):\n    def inner(*args, **kwargs):\n        with torch.no_grad():\n"
        "            return function(*args, **kwargs)\n    return inner"
    )
    kind = draft.choose(
        [
            "decorator",
            "quiet",
            "no_grad",
            "conditional",
            "assigned",
            "getattribute",
            "setattr",
            "after",
            "wrapped after",
            "call",
            "property",
            "partial",
            "keyword",
        ]
    )
    at = draft.module.body.index(draft.owner)
    import_module(draft, "functools")
    at = draft.module.body.index(draft.owner)
    if kind == "decorator":
        draft.module.body[at:at] = statements_of(wrapper)
        draft.function.decorator_list.append(expression_of("outer"))
    elif kind == "quiet":
        draft.module.body[at:at] = statements_of(no_grad)
        draft.function.decorator_list.append(expression_of("quiet"))
    elif kind == "no_grad":
        draft.function.decorator_list.append(
            expression_of(
                draft.choose(
                    [
                        "torch.no_grad()",
                        "torch.inference_mode()",
                        "torch.autocast('cpu', dtype=torch.bfloat16)",
                        "torch.enable_grad()",
                    ]
                )
            )
        )
    elif kind == "conditional":
        draft.owner.body += statements_of(f"if torch.__version__:\n    {twice.replace(chr(10), chr(10) + '    ')}")
    elif kind == "assigned":
        draft.owner.body += statements_of(f"{twice.replace('def ' + name, 'def first')}\n{name} = first")
    elif kind == "getattribute":
        draft.owner.body += statements_of(
            "def __getattribute__(self, name):\n    value = super().__getattribute__(name)\n"
            "    return 11 * 1 if name == 'vocab_size' else value"
        )
    elif kind == "setattr":
        draft.owner.body += statements_of("def __setattr__(self, name, value):\n    super().__setattr__(name, value)")
    elif kind == "after":
        draft.module.body += statements_of(f"{twice}\n{draft.owner.name}.{name} = {name}")
    elif kind == "wrapped after":
        draft.module.body += statements_of(f"{wrapper}\n{draft.owner.name}.{name} = outer({draft.owner.name}.{name})")
    elif kind == "call":
        draft.owner.body += statements_of(
            "def __call__(self, *args, **kwargs):\n    out = super().__call__(*args, **kwargs)\n    return out"
        )
    elif kind == "property":
        draft.owner.body += statements_of(
            "@property\ndef vocab_size(self):\n    return 11\n@vocab_size.setter\n"
            "def vocab_size(self, value):\n    pass"
        )
    elif kind == "partial":
        draft.owner.body += statements_of(f"{name} = functools.partialmethod({name})")
    else:
        draft.owner.body.insert(0, statements_of("FLAG = 3")[0])
        draft.function.args.kwonlyargs.append(ast.arg("flag"))
        draft.function.args.kw_defaults.append(expression_of("FLAG"))
    return kind


@changes
def module_state(draft: Draft) -> str:
    """A global that the forward reads, and that something moves."""
    value = draft.choose(["1.0", "2.0", "[2.0]", "{'k': 2.0}"])
    read = {"[2.0]": "STATE[0]", "{'k': 2.0}": "STATE['k']"}.get(value, "STATE")
    move = draft.choose(
        [
            "def move():\n    global STATE\n    STATE = 5.0",
            "def move():\n    globals()['STATE'] = 5.0",
            "def move():\n    pass",
            "def move():\n    STATE[0] = 5.0",
        ]
    )
    at = draft.module.body.index(draft.owner)
    draft.module.body[at:at] = [*statements_of(f"STATE = {value}"), *statements_of(move)]
    insert(
        draft,
        draft.choose([f"{{l}} = {{l}} * {read}", f"{{h}} = {{h}} * {read}"]),
        draft.choose(["between", "inside", "before"]),
    )
    return f"{read}; {insert(draft, 'move()')}"


@changes
def output_class(draft: Draft) -> str:
    """The output is one of the same file, which computes."""
    calls = [
        n
        for n in ast.walk(draft.function)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and "Output" in n.func.id
    ]
    call = draft.choose(calls)
    body = draft.choose(
        [
            "self.loss = self.loss + self.logits.mean() if self.loss is not None else None",
            "self.loss = self.loss * 2 if self.loss is not None else None",
            "assert self.logits is not None",
            "pass",
            "self.seen = None",
        ]
    )
    name = call.func.id
    at = draft.module.body.index(draft.owner)
    draft.module.body[at:at] = statements_of(
        f"class Own{name}({name}):\n    def __init__(self, *args, **kwargs):\n"
        f"        super().__init__(*args, **kwargs)\n        {body}"
    )
    call.func.id = f"Own{name}"
    return body


@changes
def in_init(draft: Draft) -> str:
    """Another construction: hooks, learnable operands, other attributes."""
    init = next(
        (each for each in draft.owner.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None
    )
    if init is None:
        raise Unfit
    text = draft.choose(
        [
            "{lin}.register_forward_hook(lambda m, a, o: o * 2)",
            "{lin}.weight.requires_grad_(False)",
            "{op} = torch.nn.Parameter(torch.tensor(2.0))",
            "{op} = torch.nn.Parameter(torch.ones(11) * 2)",
            "{op} = torch.tensor(2.0)",
            "{op} = torch.ones(11)",
            "{op} = 0",
            "{op} = None",
            "{op} = -1.5",
            "{op} = '2'",
            "{op} = True",
            "{op} = [2.0]",
            "{op} = float('inf')",
            "{lin}.bias = torch.nn.Parameter(torch.ones({lin}.out_features))",
            "{lin}.weight = self.model.embed_tokens.weight",
            "{w} = torch.nn.Sequential({w})",
            "{w} = torch.nn.Identity()",
            "self.loss_type = 'ForMaskedLM'",
            "self.loss_type = None",
            "self.loss_type = 'ForTokenClassification'",
            "self.forward = self.forward",
            "self.loss_function = lambda logits, labels, *a, **k: logits.mean()",
            "self.eval()",
            "{lin}.half()",
            "self.vocab_size = 12",
            "self.config.vocab_size = 12",
            "{lin} = torch.nn.Linear({lin}.in_features, {lin}.out_features, dtype=torch.float64)",
            "{lin} = torch.nn.Linear({lin}.in_features, 9)",
            "torch.nn.utils.parametrizations.weight_norm({lin})",
        ]
    )
    text = filled(draft, text)
    init.body += statements_of(text)
    return text
