"""Where a function, or what it calls of its own file, may store an attribute of some name, whatever object has it.

self.cap = None     setattr(config, "cap", None)     del options.cap     vars(self)[name] = None
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

from fusegen.codegen.index import FileIndex, FunctionBlock

ANY = "*"
"""Stands for every name, where the one that is stored is computed."""

_SETTERS = frozenset(("setattr", "delattr", "__setattr__", "__delattr__"))
_REGISTERING = frozenset(("register_buffer", "register_parameter", "register_module", "add_module"))
_MODES = frozenset(("train", "eval"))


def find_store(names: frozenset[str], block: FunctionBlock, index: FileIndex) -> ast.AST | None:
    """The first place where one of these attributes may be stored, looking into methods and functions of the file."""
    classes = index.mro(block.owner or "")
    methods = {name for each in classes for name in each.methods} - {"forward", "__init__"}
    seen: set[int] = set()
    waiting = [block]
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        for node, stored in _stores(current.node):
            if stored in names or stored == ANY:
                return node
        used = _used(current.node)
        waiting += [index.functions[name] for name in sorted(used & index.functions.keys())]
        waiting += [each.methods[name] for each in classes for name in sorted(used & methods & each.methods.keys())]
    return None


@lru_cache(maxsize=256)
def _used(function: ast.AST) -> frozenset[str]:
    """The names and attributes that a function reads: what it may call."""
    nodes = [node for node in ast.walk(function) if isinstance(node, ast.Name | ast.Attribute)]
    return frozenset(node.id if isinstance(node, ast.Name) else node.attr for node in nodes)


@lru_cache(maxsize=256)
def _stores(function: ast.AST) -> tuple[tuple[ast.AST, str], ...]:
    """Every place that stores an attribute, and its name."""
    moves = {id(target) for node in ast.walk(function) if (target := _moved(node)) is not None}
    return tuple((node, name) for node in ast.walk(function) if id(node) not in moves for name in _stored_by(node))


def _stored_by(node: ast.AST) -> Iterator[str]:
    match node:
        case (
            ast.Attribute(attr="__dict__") | ast.Call(func=ast.Name(id="vars" | "exec" | "eval" | "globals" | "locals"))
        ):
            yield ANY
        case ast.Attribute(attr=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.Subscript(value=ast.Attribute(attr=name), ctx=ast.Store() | ast.Del()):
            yield name
        case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=arguments):
            if called in _SETTERS or called in _REGISTERING:
                given = [each.value for each in arguments if isinstance(each, ast.Constant)]
                yield from [each for each in given if isinstance(each, str)][:1] or [ANY]
            elif called in _MODES:
                yield "training"


def _moved(node: ast.AST) -> ast.expr | None:
    """`self.head` of `self.head = self.head.to(device)`: the same module, elsewhere."""
    match node:
        case ast.Assign(
            targets=[ast.Attribute() as target],
            value=ast.Call(
                func=ast.Attribute(value=ast.Attribute() as moved, attr="to"), args=[ast.Attribute(attr=to)]
            ),
        ) if "device" in to and ast.unparse(target) == ast.unparse(moved):
            return target
    return None
