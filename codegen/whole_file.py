"""A whole modeling file with its forwards changed in it: for people who vendor a model, or who patch the original.

from ...activations import ACT2FN        ->    from transformers.activations import ACT2FN      (full only)
                                         ->    from fusegen.runtime import causal_lm_loss, fusible
logits = self.lm_head(hidden_states)     ->    if fusible(...): ... else: logits = self.lm_head(hidden_states)
"""

from __future__ import annotations

import ast
import re

from fusegen.codegen.diffs import file_diff
from fusegen.codegen.index import FileIndex, FunctionBlock
from fusegen.codegen.plan import Plan
from fusegen.codegen.render import Original, free_names, fused_function, header, runtime_names
from fusegen.codegen.splice import SpliceError


class Unchangeable(SpliceError):
    """A file that cannot be changed as a whole; its classes alone may be generated all the same."""


Planned = list[tuple[Plan, FunctionBlock]]

_NOTICE = """\
#
# The file named above, changed by fusegen: imports are absolute, and there is what `Changed by fusegen` says.
#
"""
_RELATIVE = re.compile(r"from[\s\\]*\.[.\s\\]*[\w.]*?[\s\\]*\bimport\b")


def full_text(original: Original, index: FileIndex, planned: Planned, version: str) -> str:
    """The complete file, with imports that work wherever it lies. Raises `SpliceError`, `SyntaxError`."""
    changed = _absolute(_changed_file(index, planned, version), original)
    return f"{header(original, version)}\n{_NOTICE}{changed}"


def patch_text(original: Original, index: FileIndex, planned: Planned, version: str, content: bytes) -> str:
    """The diff from the file, whose bytes are `content`, to the changed one, with the line ends that it has.

    Raises `SpliceError` (for a file that is not UTF-8 as well), or `SyntaxError` if the outcome would be no Python.
    """
    changed = _changed_file(index, planned, version)
    compile(changed, original.file, "exec")
    try:
        before = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unchangeable("the file is not UTF-8, and its patch would be") from error
    mark = "\ufeff" if before.startswith("\ufeff") else ""
    return file_diff(original.file, before, mark + (changed.replace("\n", "\r\n") if "\r\n" in before else changed))


def _changed_file(index: FileIndex, planned: Planned, version: str) -> str:
    """The original with every planned function changed, and an import of what the branches call."""
    functions = [fused_function(plan, block) for plan, block in planned]
    names = runtime_names(index, planned, {name for function in functions for name in free_names(function)})
    own = {*index.classes, *index.functions} & set(names)
    if own:
        raise Unchangeable(f"the file defines a `{min(own)}` of its own")
    starts = _line_starts(index.text)
    edits = [(_after_imports(index.text), "", _import_text(names, version))]
    for (_, block), function in zip(planned, functions, strict=True):
        edits.append((starts[block.line - 1], block.text.rstrip(), function))
    return _edited(index.text, edits)


def _line_starts(text: str) -> list[int]:
    return [0, *(found.end() for found in re.finditer("\n", text))]


def _edited(text: str, edits: list[tuple[int, str, str]]) -> str:
    """`text` with each (offset, old, new) made."""
    for start, old, new in sorted(edits, reverse=True):
        if not text.startswith(old, start):
            raise SpliceError("a function is not where it was found")
        text = text[:start] + new + text[start + len(old) :]
    return text


def _import_text(names: list[str], version: str) -> str:
    return (
        f"\n# Changed by fusegen {version}: this import and the branches under `fusible(...)` are new.\n"
        f"from fusegen.runtime import {', '.join(names)}\n"
    )


def _after_imports(text: str) -> int:
    """The offset behind the imports that a file begins with. Raises `SpliceError` if it begins with none."""
    last = None
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            last = node.end_lineno
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            break
    if last is None:
        raise Unchangeable("the file does not begin with imports")
    return (*_line_starts(text), len(text))[last]


def _absolute(text: str, original: Original) -> str:
    """`from ...activations import ACT2FN` as `from transformers.activations import ACT2FN`, everywhere in a file."""
    package = [original.package, *original.file.split("/")[:-1]]
    starts = _line_starts(text)
    edits = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level:
            start = starts[node.lineno - 1] + node.col_offset
            spelled = _RELATIVE.match(text, start)
            if spelled is None or node.level > len(package):
                raise Unchangeable(f"the import in line {node.lineno} cannot be made absolute")
            parents = package[: len(package) - node.level + 1]
            module = ".".join([*parents, node.module] if node.module else parents)
            edits.append((start, spelled[0], f"from {module} import"))
    return _edited(text, edits)
