"""What runs around a matched forward and may miss the logits that a fused branch leaves out.

@with_z_loss def forward(self): ...                              a decorator that is not known
class Out(ModelOutput): def __post_init__(self): ...             an output class that computes
class A: def __call__(self, *a): out = super().__call__(*a) ...  a call that does more than forward
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from fusegen.codegen.branch import PlanRefusal
from fusegen.codegen.chain import Chain
from fusegen.codegen.decorators import unknown_class_decorator, unknown_decorator
from fusegen.codegen.findings import Analysis
from fusegen.codegen.index import ClassBlock
from fusegen.codegen.members import Scope
from fusegen.codegen.storage import is_output_class
from fusegen.codegen.values import Call, Global, Value

# Methods through which a call of a module goes, and through which all of its attributes are read.
_AROUND_FORWARD = ("__call__", "_call_impl", "_wrapped_call_impl", "__getattribute__")
# Modules whose output classes hold what they get.
_PLAIN_MODULES = frozenset(["modeling_outputs", "utils", "file_utils", "generic"])
_PLAIN_BASES = frozenset(
    ["ModelOutput", "NamedTuple", "typing.NamedTuple", "OrderedDict", "collections.OrderedDict", "dict", "object"]
)


def surrounding(analysis: Analysis) -> PlanRefusal | None:
    """What around a matched function may read the logits, or change what it returns; None if nothing shows."""
    block, scope = analysis.block, analysis.reading.scope
    decorator = unknown_decorator(block.node.decorator_list, scope, forward=True)
    if decorator is not None:
        said = ast.unparse(decorator).split("\n", 1)[0]
        return PlanRefusal("FG612", f"`@{said}` is not known to leave the output alone", decorator.lineno)
    for owner in scope.index.mro(block.owner) if block.owner else ():
        for name in _AROUND_FORWARD:
            if name in owner.methods or name in owner.assigned:
                line = owner.methods[name].line if name in owner.methods else owner.assigned[name]
                return PlanRefusal("FG614", f"`{owner.name}` has a `{name}` of its own", line)
    holds = _logits_of(analysis)
    for call in _outputs(analysis, holds):
        assert isinstance(call.func, Global)
        why = _Outputs(scope, _fields(call, holds)).why_not(call.func.path)
        if why is not None:
            detail, line = why
            return PlanRefusal("FG613", detail, line or getattr(call.node, "lineno", block.line))
    return None


def _outputs(analysis: Analysis, holds: Callable[[Value], bool]) -> Iterator[Call]:
    """The calls of output classes with what the head computes, also in functions of this file that it calls."""
    walks = [analysis.walked, *(each for each in analysis.reading.inlined.values() if each is not None)]
    for walked in walks:
        for record in walked.calls:
            call = record.call
            given = (*call.args, *(value for _, value in call.keywords))
            made = isinstance(call.func, Global) and is_output_class(call.func.path)
            if made and any(map(holds, given)):
                yield call


def _fields(call: Call, holds: Callable[[Value], bool]) -> frozenset[str] | None:
    """The fields that get what the head computes; None if a call does not name them."""
    if any(map(holds, call.args)) or None in dict(call.keywords):
        return None
    return frozenset(name for name, value in call.keywords if name and holds(value))


def _logits_of(analysis: Analysis) -> Callable[[Value], bool]:
    """What asks whether a value holds logits: of a head of several layers too, which are on the way of a chain."""
    chains = [each.chain for each in analysis.found if isinstance(each.chain, Chain)]
    logits = {value for chain in chains for value in (*chain.trail, *chain.also)}
    return lambda value: value in logits or analysis.reading.has_head(value)


class _Outputs:
    """Whether output classes hold what they get and do nothing with the fields that hold logits (None: with any)."""

    def __init__(self, scope: Scope, fields: frozenset[str] | None) -> None:
        self.scope = scope
        self.fields = fields
        self.seen: set[str] = set()

    def why_not(self, path: str) -> tuple[str, int] | None:
        """Why a class may do more than hold what it gets, with the line (0: of the call); None if it does not."""
        module, _, name = path.lstrip(".").rpartition(".")
        index = self.scope.index
        if module:
            plain = module.rsplit(".", 1)[-1] in _PLAIN_MODULES or module.startswith("transformers.")
            return None if plain else (f"`{name}` of `{module}` is not shown to hold only what it gets", 0)
        if name in index.functions:
            return f"`{name}` is a function", index.functions[name].line
        if name in index.own and (name not in index.classes or name in index.ambiguous or name in index.repeated):
            return f"`{name}` is bound here to something that is not known", 0
        if name not in index.classes or name in self.seen:
            return None
        self.seen.add(name)
        return self._in_class(index.classes[name])

    def _in_class(self, block: ClassBlock) -> tuple[str, int] | None:
        node = block.definition
        if (decorator := unknown_class_decorator(node.decorator_list, self.scope)) is not None:
            return f"`@{ast.unparse(decorator)}` may change `{block.name}`", decorator.lineno
        if node.keywords:
            return f"`{block.name}` is made with `{ast.unparse(node.keywords[0])}`", node.lineno
        for statement in node.body:
            if not self._holds_only(statement):
                named = f".{statement.name}" if isinstance(statement, ast.FunctionDef | ast.ClassDef) else ""
                return f"`{block.name}{named}` does more than hold what it gets", statement.lineno
        for base in node.bases:
            if (why := self._base(ast.unparse(base), node.lineno)) is not None:
                return why
        return None

    def _base(self, spelled: str, line: int) -> tuple[str, int] | None:
        if spelled in _PLAIN_BASES and spelled.split(".")[0] not in self.scope.index.own:
            return None
        root, _, rest = spelled.partition(".")
        resolved = self.scope.resolve(root) if root.isidentifier() else None
        if not isinstance(resolved, Global):
            return f"`{spelled}` is not known", line
        return self.why_not(f"{resolved.path}.{rest}" if rest else resolved.path)

    def _holds_only(self, statement: ast.stmt) -> bool:
        """Whether a statement of an output class only declares what it holds, or reads fields without logits."""
        match statement:
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                return True
            case ast.AnnAssign(value=value) | ast.Assign(value=value):
                return value is None or isinstance(value, ast.Constant) or _is_field(value)
            case ast.FunctionDef(name="to_tuple", decorator_list=[]):
                # That of transformers takes nested outputs apart.
                return not any(isinstance(node, ast.BinOp | ast.AugAssign) for node in ast.walk(statement))
            case ast.FunctionDef(name=name, decorator_list=[ast.Name(id="property")]):
                return not _holds_logits(name) and self._reads_others(statement)
        return False

    def _reads_others(self, function: ast.FunctionDef) -> bool:
        """Whether a property only reads fields by name, none of which holds logits."""
        attributes = [node for node in ast.walk(function) if isinstance(node, ast.Attribute)]
        of_self = [node for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "self"]
        selves = [node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id == "self"]
        if self.fields is None or len(selves) != len(of_self):
            return False
        return all(
            isinstance(node.ctx, ast.Load) and node.attr not in self.fields and not _holds_logits(node.attr)
            for node in of_self
        )


def _holds_logits(name: str) -> bool:
    return name.startswith("__") or "logit" in name or "loss" in name


def _is_field(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "dataclasses.field")
