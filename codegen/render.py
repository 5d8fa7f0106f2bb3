"""Plans to the text of a generated module: every decision was made before, templates only place text."""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass
from functools import cache

import jinja2

from fusegen.codegen.index import FileIndex, FunctionBlock
from fusegen.codegen.plan import Plan
from fusegen.codegen.splice import splice

_LINE_LENGTH = 119
_BUILTINS = frozenset(dir(builtins))


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
    name: str
    function: str


def fused_function(plan: Plan, block: FunctionBlock) -> str:
    """The whole patched function, with the fused branch before the original statements."""
    indent = 8
    arguments = [_argument(name, text) for name, text in plan.call.all()]
    call = f"{plan.loss} = {plan.call.function}({', '.join(arguments)})"
    branch = _template("fused_branch.py.j2").render(
        condition=" and ".join([_fusible(plan), *map(_operand, plan.call.guards)]),
        kept=_lines(plan.kept),
        cleared=plan.cleared,
        loss=plan.loss,
        function=plan.call.function,
        arguments=arguments,
        wide=len(call) + indent + 4 > _LINE_LENGTH,
        after=_lines(plan.after),
    )
    return splice(block.text.rstrip() + "\n", plan.start, plan.stop, branch + "\n").rstrip()


def _fusible(plan: Plan) -> str:
    stock = f', loss="{plan.call.stock}"' if plan.call.stock else ""
    return f"fusible(self, {plan.call.head}, {plan.labels}{stock})"


def _argument(name: str | None, text: str) -> str:
    if name is None:
        return text
    return f"**{text}" if name == "**" else f"{name}={text}"


def _operand(guard: str) -> str:
    return f"({guard})" if isinstance(ast.parse(guard, mode="eval").body, ast.BoolOp | ast.IfExp) else guard


def _lines(statements: tuple[str, ...]) -> list[str]:
    return [line for statement in statements for line in statement.split("\n")]


def module_text(original: Original, index: FileIndex, plans: list[tuple[Plan, FunctionBlock]], version: str) -> str:
    """The generated module for one modeling file."""
    classes = [RenderedClass(block.owner or "", fused_function(plan, block)) for plan, block in plans]
    names = {name for rendered in classes for name in free_names(rendered.function)}
    runtime = runtime_names(plans, names)
    free = sorted(names - set(runtime), key=_import_order)
    source_package, _, source_module = original.module.rpartition(".")
    return (
        _template("module.py.j2").render(
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


def runtime_names(plans: list[tuple[Plan, FunctionBlock]], names: set[str]) -> list[str]:
    """What changed functions take from `fusegen.runtime`, sorted; `names` are all that they take from a module."""
    return sorted({"fusible", *(plan.call.function for plan, _ in plans)})


def header(original: Original, version: str) -> str:
    """The first line of a generated file."""
    return _template("header.py.j2").render(
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
    node = ast.parse("class _:\n" + function).body[0].body[0]  # type: ignore[attr-defined]
    arguments = node.args
    bound = {
        a.arg
        for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        if a
    }
    loaded: set[str] = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            (bound if isinstance(child.ctx, ast.Store) else loaded).add(child.id)
        elif isinstance(child, ast.arg | ast.FunctionDef | ast.Lambda) and child is not node:
            bound |= (
                {child.arg}
                if isinstance(child, ast.arg)
                else {child.name}
                if isinstance(child, ast.FunctionDef)
                else set()
            )
    return loaded - bound - _BUILTINS


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


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fusegen.templates", ""),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=False,
        autoescape=False,
    )
    return environment.get_template(name)
