"""The functions of a generated module, made from its text: of what stands around them, only the imports run.

    from fusegen.runtime import causal_lm_loss, fusible      runs
    from ...modeling_llama import auto_docstring             does not: the original is asked for its names at each call
    class LlamaForCausalLM(_source.LlamaForCausalLM):        does not: no decorator, default or annotation is evaluated
        def forward(self, ...):                              becomes a function

What the text itself imports or defines is in cells of the function.
"""

from __future__ import annotations

import ast
import builtins
import dis
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

from fusegen.runtime.syntax import parsed

CLASS_CELL = "__class__"
_OUTSIDE = "names"


def text_of(name: str) -> tuple[str, str]:
    """The text of a module that can be imported, and its file; neither needs to be there twice.

    Raises:
        ImportError: no such module, or it has no source.
    """
    spec = find_spec(name)
    get_source = getattr(spec and spec.loader, "get_source", None)
    text = get_source(name) if get_source else None
    if spec is None or text is None:
        raise ModuleNotFoundError(f"there is no source of {name}", name=name)
    return text, spec.origin or f"<{name}>"


@cache
def generated_function(text: str, file: str, name: str, original: str, class_name: str, method: str) -> FunctionType:
    """A method of a generated text, without decorators and defaults. The same object each time.

    Args:
        text, file, name: of the generated module; tracebacks show the file.
        original: the module that it was generated from, as the text spells it.

    Raises:
        LookupError: no such class or method in the text; and what the text itself may raise.
    """
    tree = parsed(text)
    outside, known = _names(tree, file, name, original)
    code = _code(_definition(tree, class_name, method), class_name, sorted(known), file)
    cells = [CellType() if each == CLASS_CELL else CellType(outside[each]) for each in code.co_freevars]
    return FunctionType(code, outside, method, None, tuple(cells))


def global_names(code: CodeType) -> Iterator[str]:
    """The names that a function, and the functions in it, look up in their module."""
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield each.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from global_names(constant)


def unknown_names(code: CodeType, original: FunctionType) -> list[str]:
    """Names that a generated function needs, and neither the original nor its module knows."""
    known = {*original.__globals__, *vars(builtins), *global_names(original.__code__)}
    return sorted(set(global_names(code)) - known)


def _names(tree: ast.Module, file: str, name: str, original: str) -> tuple[dict[str, Any], set[str]]:
    """What the text binds for itself, as the globals of a module, and the names that are in it.

    A module that is imported as a whole (`import torch`) is the original's, which has it too.
    """
    kept = [each for each in tree.body if not isinstance(each, ast.ClassDef) and not _imports(each, original)]
    made = ModuleType(name)
    outside = vars(made)
    outside |= {"__file__": file, "__package__": name.rpartition(".")[0]}
    before = {*outside, "__builtins__"}
    exec(compile(ast.Module(kept, []), file, "exec"), outside)
    shared = {alias.name for each in kept if isinstance(each, ast.Import) for alias in each.names if not alias.asname}
    return outside, set(outside) - before - shared


def _imports(statement: ast.stmt, original: str) -> bool:
    """Whether a statement imports the original, or from it."""
    parent, _, last = original.rpartition(".")
    match statement:
        case ast.ImportFrom(module=module, names=names):
            return module == original or ((module or "") == parent and [each.name for each in names] == [last])
        case ast.Import(names=names):
            return [each.name for each in names] == [original]
    return False


def _definition(tree: ast.Module, class_name: str, method: str) -> ast.FunctionDef:
    found: list[Any] = [tree]
    for kind, name in ((ast.ClassDef, class_name), (ast.FunctionDef, method)):
        found = [each for each in found[-1].body if isinstance(each, kind) and each.name == name]
        if not found:
            raise LookupError(f"it defines no {class_name}.{method}")
    definition: ast.FunctionDef = found[-1]
    return definition


def _code(definition: ast.FunctionDef, class_name: str, names: list[str], file: str) -> CodeType:
    """The code of a method, to which `names` are those of a function around its class. Nothing is run."""
    outer = parsed(f"def {_OUTSIDE}({', '.join(names)}):\n class {class_name}: pass")
    outer.body[0].body[0].body = [definition]  # type: ignore[attr-defined]
    if hasattr(definition, "type_params"):
        definition.type_params = []  # they would be a scope between the two
    code = compile(outer, file, "exec")
    for name in (_OUTSIDE, class_name, definition.name):
        code = [each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == name][-1]
    return code.replace(co_qualname=f"{class_name}.{definition.name}")
