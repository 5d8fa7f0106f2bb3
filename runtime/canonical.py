"""Forwards written by hand that replace known originals, told apart by how the original is written.

    register_canonical(structural_hash(AcmeForCausalLM), forward)
    install()                                    # wherever a class is written exactly so, your forward runs

The hash is of the class's `forward` and `__init__` without comments, docstrings and layout: another one
after any change that could matter, in what is computed or in the modules that compute it. It is consulted
before every generated tree.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import threading
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from fusegen.runtime.outcomes import CANONICAL, Body, Refused, refused
from fusegen.runtime.reasons import SIGNATURE
from fusegen.runtime.swaps import swaps
from fusegen.runtime.syntax import parsed, shape

_forwards: dict[str, FunctionType] = {}
_lock = threading.Lock()


def register_canonical(structural_hash: str, forward: FunctionType) -> None:
    """Let `forward` replace every original with this hash, from the next `install()` or import of a model on.

    Args:
        structural_hash: of the original, see `structural_hash`.
        forward: called as the original is: the same names, kinds and defaults of parameters.

    Raises:
        ValueError: no hash.
        TypeError: no plain function.
    """
    if len(structural_hash) != 64:
        raise ValueError(f"structural_hash: expected 64 hexadecimal digits, got {structural_hash!r}")
    if not isinstance(forward, FunctionType):
        raise TypeError(f"forward: expected a function, got {type(forward).__name__}")
    with _lock:
        _forwards[structural_hash] = forward


def unregister_canonical(structural_hash: str) -> None:
    """Forget a registered forward; what it replaced is restored by `uninstall`. Raises `KeyError`."""
    with _lock:
        del _forwards[structural_hash]


def structural_hash(original: type) -> str:
    """The sha256 of the syntax of a class's `forward` and `__init__`, its own or inherited, decorators included.

    The forward alone does not say what it computes: in some models a copy of it calls another kind of head.
    A class that is patched is known by its original.

    Raises:
        OSError, TypeError: it is no class, or there is no source of it.
    """
    if not isinstance(original, type):
        raise TypeError(f"original: expected a class, got {original!r}")
    shapes = [shape(_syntax(_original(original, method))) for method in ("__init__", "forward")]
    return hashlib.sha256("\n".join(shapes).encode()).hexdigest()


def canonical_bodies(module: ModuleType) -> Iterator[Body | Refused]:
    """The registered forwards for the classes that `module` defines."""
    with _lock:
        forwards = dict(_forwards)
    if not forwards:
        return
    for class_name, owner in list(vars(module).items()):
        if not isinstance(owner, type) or owner.__module__ != module.__name__:
            continue
        original = swaps.original(owner, "forward")
        if isinstance(original, FunctionType):
            replacement = forwards.get(_hash_or_nothing(owner))
            if replacement is not None:
                yield _checked(Body(module.__name__, class_name, "forward", replacement, CANONICAL), original)


def _checked(body: Body, original: FunctionType) -> Body | Refused:
    ours, theirs = _parameters(body.function), _parameters(original)
    return body if ours == theirs else refused(body.name, SIGNATURE, f"({', '.join(p[0] for p in theirs)})")


def _parameters(function: FunctionType) -> list[tuple[str, Any, Any]]:
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


def _hash_or_nothing(owner: type) -> str:
    try:
        return structural_hash(owner)
    except (OSError, TypeError, SyntaxError):
        return ""


def _original(cls: type, method: str) -> Any:
    owner = next(each for each in cls.__mro__ if method in vars(each))
    return inspect.unwrap(swaps.original(owner, method))


def _syntax(function: Any) -> ast.AST:
    source = inspect.getsource(function)
    tree = parsed(f"class _:\n{source}" if source[:1].isspace() else source)
    return next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
