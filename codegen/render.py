"""Plans to the text of a generated module: every decision was made before, templates only place text."""

from __future__ import annotations

import ast
import builtins
import symtable
from dataclasses import dataclass

from fusegen.codegen.arguments import STOCK_KEYWORDS
from fusegen.codegen.branch import Line, LossCall
from fusegen.codegen.index import FileIndex, FunctionBlock
from fusegen.codegen.plan import Edit, Plan
from fusegen.codegen.splice import splice
from fusegen.codegen.templating import template

_LINE_LENGTH = 119
_BUILTINS = frozenset(dir(builtins))
# Decorators that make tuples of outputs: the runtime's keep the logits in them (`runtime/tuples.py`).
_TUPLE_DECORATORS = frozenset({"can_return_tuple", "capture_outputs", "check_model_inputs"})


@dataclass(frozen=True, slots=True)
class Original:
    """The modeling file that a generated module comes from. A module outside of any package has the package ""."""

    package: str
    version: str
    file: str
    sha256: str

    @property
    def module(self) -> str:
        """The dotted name under which the file is imported."""
        inside = self.file.removesuffix(".py").replace("/", ".")
        return f"{self.package}.{inside}" if self.package else inside


@dataclass(frozen=True, slots=True)
class RenderedClass:
    """A generated class; `needs_original` where its function asks for the class that it stands in."""

    name: str
    function: str
    needs_original: bool


def fused_function(plan: Plan, block: FunctionBlock) -> str:
    """The whole patched function, with a fused branch before each run of original statements."""
    text = block.text.rstrip() + "\n"
    for edit in sorted(plan.edits, key=lambda edit: edit.order, reverse=True):
        indent = 8 + 4 * len(edit.way)
        branch = template("fused_branch.py.j2").render(
            condition=_condition(edit, indent),
            lines=[line for each in edit.branch for line in _lines(each, indent + 4)],
        )
        text = splice(text, edit.way, edit.start, edit.stop, branch + "\n")
    return text.rstrip()


def _condition(edit: Edit, indent: int) -> list[str]:
    """The lines of `if ...:`."""
    arguments = ["self", edit.head.guarded, edit.labels]
    if edit.stock:
        arguments.append(f'loss="{edit.stock}"')
    if edit.through:
        passed = ", ".join(f'"{path}": {name}' for path, name in edit.through)
        arguments.append(f"through={{{passed}}}")
    if edit.guards:
        arguments.append(f"where=lambda: {' and '.join(map(_operand, edit.guards))}")
    if not edit.asked:
        return _call("if fusible", arguments, ":", indent)
    asked = [_operand(test) for test in edit.asked]
    line = f"if {' and '.join(asked)} and fusible({', '.join(arguments)}):"
    if len(line) + indent <= _LINE_LENGTH:
        return [line]
    first, *others = asked
    call = _call("and fusible", arguments, "", indent + 4)
    return ["if (", *(f"    {line}" for line in (first, *(f"and {other}" for other in others), *call)), "):"]


def _lines(line: Line | LossCall, indent: int) -> list[str]:
    """A line of a branch, with its depth but without the indentation of the branch."""
    margin = "    " * line.depth
    if isinstance(line, Line):
        return [f"{margin}{text}" for text in line.text.split("\n")]
    arguments = [_argument(name, text) for name, text in line.call.all()]
    called = _call(f"{line.target} = {line.call.function}", arguments, "", indent + len(margin))
    return [f"{margin}{text}" for text in called]


def _call(start: str, arguments: list[str], end: str, indent: int) -> list[str]:
    """`start(arguments)end` on one line, or with one line for each argument."""
    line = f"{start}({', '.join(arguments)}){end}"
    if len(line) + indent <= _LINE_LENGTH:
        return [line]
    return [f"{start}(", *(f"    {argument}," for argument in arguments), f"){end}"]


def _argument(name: str | None, text: str) -> str:
    text = _quoted(text)
    if name is None:
        return text
    return f"**{STOCK_KEYWORDS}({text})" if name == "**" else f"{name}={text}"


def _operand(guard: str) -> str:
    compound = isinstance(ast.parse(guard, mode="eval").body, ast.BoolOp | ast.IfExp)
    return f"({_quoted(guard)})" if compound else _quoted(guard)


def _quoted(text: str) -> str:
    """An expression with double quotes around its strings, where that is all there is to it."""
    return text.replace("'", '"') if '"' not in text and "\\" not in text else text


def module_text(original: Original, index: FileIndex, plans: list[tuple[Plan, FunctionBlock]], version: str) -> str:
    """The generated module for one modeling file."""
    classes = [
        RenderedClass(block.owner or "", fused_function(plan, block), plan.needs_original) for plan, block in plans
    ]
    names = {name for rendered in classes for name in free_names(rendered.function)}
    standing = ["stands_for_original"] if any(each.needs_original for each in classes) else []
    runtime = sorted([*runtime_names(index, plans, names), *standing])
    free = sorted(names - set(runtime), key=_import_order)
    source_package, _, source_module = original.module.rpartition(".")
    return (
        template("module.py.j2").render(
            version=version,
            package=original.package,
            package_version=original.version,
            file=original.file,
            sha256=original.sha256,
            licence=_licence(index.text),
            needs_torch="torch" in free,
            source_package=source_package,
            source_module=source_module,
            names=[name for name in free if name != "torch"],
            runtime_names=runtime,
            classes=classes,
        )
        + "\n"
    )


def runtime_names(index: FileIndex, plans: list[tuple[Plan, FunctionBlock]], names: set[str]) -> list[str]:
    """What changed functions take from `fusegen.runtime`, sorted; `names` are all that they take from a module.

    A decorator that the file itself defines is no stock one, whatever its name.
    """
    decorators = names & _TUPLE_DECORATORS & index.imports.keys()
    return sorted({"fusible"}.union(*(plan.functions for plan, _ in plans)) | decorators)


def header(original: Original, version: str) -> str:
    """The first line of a generated file."""
    return template("header.py.j2").render(
        version=version,
        package=original.package,
        package_version=original.version,
        file=original.file,
        sha256=original.sha256,
    )


def _import_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions, as import sorters have it."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name)


def free_names(function: str) -> set[str]:
    """Names that a function takes from the module around it: in its body, decorators, defaults and annotations."""
    tables = [symtable.symtable(f"class _:\n{function}\n", "", "exec").get_children()[0]]
    names: set[str] = set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return names - _BUILTINS


def _licence(text: str) -> str:
    """The comment lines at the head of the original that are its notice, without generation banners."""
    lines: list[str] = []
    for line in text.split("\n"):
        if not line.startswith("#"):
            if line.strip() == "" and not lines:
                continue
            break
        lines.append(line.rstrip())
    start = next((number for number, line in enumerate(lines) if "Copyright" in line), None)
    return "\n".join(line for line in lines[start:] if "coding=" not in line) if start is not None else ""
