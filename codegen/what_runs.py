"""Whether the text of a function that was read is what runs when its class is called, as far as the file shows.

class A: def forward(self): ...
    if fast: def forward(self): ...            another definition may run
A.forward = compiled(A.forward)                another function may run
@with_z_loss def forward(self): ...            something around it may read the logits
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from fusegen.codegen.class_body import class_body, reads
from fusegen.codegen.decorators import unknown_class_decorator
from fusegen.codegen.index import ClassBlock, FunctionBlock
from fusegen.codegen.logit_ops.step import Refusal
from fusegen.codegen.members import Scope

CODE = "FG209"

# Attributes of a class that change which of its functions run.
_DECISIVE = ("__call__", "__class__", "__bases__", "_call_impl")
# Functions that only read what they are asked for by name.
_READERS = frozenset(["getattr", "hasattr"])
_METACLASSES = frozenset(["ABCMeta", "abc.ABCMeta", "type"])
# An attribute that is a target: what follows is no call, no longer path and no end of a line.
_TARGET = r"\.{name}\b(?:\s*[,:=+*/&^@%|\\-]|[ \t]*[)\]][^\n=]*=(?!=)|[ \t]+in\b)"
_NAMESPACES = re.compile(r"\b(?:exec|eval|globals|locals|vars)[ \t]*\(")


def replaced(block: FunctionBlock, scope: Scope) -> Refusal | None:
    """What may put another function in the place of the one that was read; None if nothing in the file does."""
    index = scope.index
    name = block.owner or block.name
    if name in index.conditional:
        return _refusal(index.conditional[name], f"`{name}` is defined under a condition")
    if name in index.repeated:
        return _refusal(index.repeated[name], f"`{name}` is defined twice")
    if name in index.ambiguous:
        return _refusal(block.line, f"the file binds `{name}` in more ways than one")
    for start, piece in index.margin_pieces(_NAMESPACES):
        return _refusal(index.text.count("\n", 0, start) + 1, f"`{piece}` may bind any name of the file")
    if block.owner is None:
        return None
    owner = index.classes[block.owner]
    return _rebound(block, owner) or _made_otherwise(block.owner, scope) or _stored(block.name, block.owner, scope)


def _refusal(line: int, detail: str) -> Refusal:
    return Refusal(CODE, _At(line), detail)


class _At(ast.AST):
    """A line of the file, as a place."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.lineno, self.col_offset = line, 0


def _rebound(block: FunctionBlock, owner: ClassBlock) -> Refusal | None:
    """Another binding of the method's name in the body of its class."""
    if block.name in owner.body.bound:
        return _refusal(owner.body.bound[block.name], f"`{owner.name}` binds `{block.name}` again")
    if not reads(owner.text, block.name) and not _NAMESPACES.search(owner.text):
        return None
    whole = class_body(owner.text, owner.block.line, owner.definition)
    if whole.hidden:
        return _refusal(whole.hidden, f"the body of `{owner.name}` may bind any name here")
    if block.name in whole.read:
        return _refusal(whole.read[block.name], f"the body of `{owner.name}` does something else with `{block.name}`")
    return None


def _made_otherwise(owner: str, scope: Scope) -> Refusal | None:
    """A decorator, a metaclass or a hook of a base that gets the class when it is made."""
    for block in scope.index.mro(owner):
        header = block.header
        unknown = unknown_class_decorator(header.decorator_list, scope)
        if unknown is not None:
            return _refusal(unknown.lineno, f"`@{ast.unparse(unknown)}` gets the class and may change it")
        for keyword in header.keywords:
            if ast.unparse(keyword.value) not in _METACLASSES:
                return _refusal(header.lineno, f"`{block.name}` is made with `{ast.unparse(keyword)}`")
        if "__init_subclass__" in block.methods:
            line = block.methods["__init_subclass__"].line
            return _refusal(line, f"`{block.name}.__init_subclass__` gets the class and may change it")
    return None


def _stored(method: str, owner: str, scope: Scope) -> Refusal | None:
    """A store to the method from outside of the body: `A.forward = f`, `setattr(A, "forward", f)`, `del A.forward`."""
    text = scope.index.text
    if not any(_may_store(text, name) for name in (method, *_DECISIVE)):
        return None
    related = {block.name for block in scope.index.mro(owner)}
    for node, around in _nodes(ast.parse(text), ""):
        for target in _stores(node, (method, *_DECISIVE)):
            if _may_be(target, around, related, scope):
                said = ast.unparse(node).split("\n", 1)[0]
                return _refusal(node.lineno, f"`{said}` may put another function in its place")
    return None


def _may_store(text: str, name: str) -> bool:
    """Whether a text may set or delete an attribute of that name (each pattern begins with a literal, for speed)."""
    if f'"{name}"' in text or f"'{name}'" in text:
        return True
    return bool(re.search(_TARGET.format(name=name), text) or re.search(rf"del [^\n]*\.{name}\b", text))


def _nodes(tree: ast.AST, around: str) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Every node with the name of the class of the margin that it stands in, or ""."""
    for child in ast.iter_child_nodes(tree):
        inside = child.name if isinstance(child, ast.ClassDef) and not around else around
        if isinstance(child, ast.expr | ast.stmt):
            yield child, inside
        yield from _nodes(child, inside)


def _stores(node: ast.AST, names: tuple[str, ...]) -> Iterator[ast.expr]:
    """The objects whose attribute a node may set or delete, where the attribute is one of `names`."""
    match node:
        case ast.Attribute(value=base, attr=name, ctx=ast.Store() | ast.Del()) if name in names:
            yield base
        case ast.Call(func=ast.Name(id=function)) if function in _READERS:
            return
        case ast.Call(args=[first, *rest]) if any(
            isinstance(each, ast.Constant) and each.value in names for each in rest
        ):
            yield first


def _may_be(target: ast.expr, around: str, related: set[str], scope: Scope) -> bool:
    """Whether an object may be the class, a base of it, or an instance."""
    match target:
        case ast.Name(id="self" | "cls"):
            return not around or around in related
        case ast.Name(id=name):
            return name in related or name not in scope.index.classes
        case ast.Attribute(value=ast.Name(id="self")):
            return False
    return True
