"""What the body of a class does besides defining methods: the names that it binds, and those that it reads.

forward = wrap(forward)                  ->  binds and reads `forward`
if fast: def forward(self): ...          ->  binds `forward`
locals()["forward"] = f                  ->  may bind anything
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# What gives the names of a body as an object, through which others can be bound.
_NAMESPACES = frozenset(["locals", "vars", "globals", "exec", "eval"])
_HIDDEN = re.compile(r"\b(?:locals|vars|globals|exec|eval)[ \t]*\(")

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# Lines of a class body of which the text shows all: definitions, plain decorators, closing brackets, `x: int`, `pass`.
_PLAIN_LINE = re.compile(r"(?:async[ \t]+)?def\b|@[\w.]+[ \t]*(?:\(.*)?$|[)\]}]|\w+[ \t]*:[^=;]*$|pass[ \t]*$|#")
_PLAIN_ASSIGNMENT = re.compile(r"(\w+)[ \t]*(?::[^=;\n]*)?=(?!=)(?![ \t]*[\w.\[\]]+[ \t]*=(?!=))[^;]*$")


@dataclass(slots=True)
class ClassBody:
    """Names bound otherwise than by a plain definition, names that are read, and calls that may bind any; by line."""

    bound: dict[str, int] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    hidden: int = 0


def class_body(text: str, line: int, node: ast.ClassDef | None = None) -> ClassBody:
    """What the class whose text (from the word `class` on) begins at `line` does in its body. Raises `SyntaxError`.

    `read` is complete only where something in the body is more than a definition or an assignment of one name.
    """
    if node is None:
        quick = _by_its_text(text, line)
        if quick is not None:
            return quick
        (node,) = (each for each in ast.parse("\n" * (line - 1) + text).body if isinstance(each, ast.ClassDef))
    body = ClassBody()
    _Body(body).block(node.body)
    return body


def reads(text: str, name: str) -> bool:
    """Whether the text of a class may have `name` elsewhere than where a method of that name begins."""
    words = len(re.findall(rf"(?<![\w.]){name}\b", text))
    return words > len(re.findall(rf"^[ \t]+(?:async[ \t]+)?def[ \t]+{name}\b", text, re.MULTILINE))


def _by_its_text(text: str, line: int) -> ClassBody | None:
    """The body, where its lines show that it holds nothing but definitions and assignments; None if they do not."""
    indent = re.search(r"\n([ \t]+)\S", text)
    if indent is None or not text.split("\n", 1)[0].rstrip().endswith(":") or _HIDDEN.search(text):
        return None
    body = ClassBody()
    for each in re.finditer(rf"\n{indent.group(1)}(?=\S)(.*)", text):
        if ":=" in each.group(1):
            return None
        if assigned := _PLAIN_ASSIGNMENT.match(each.group(1)):
            body.bound.setdefault(assigned.group(1), line + text.count("\n", 0, each.start()) + 1)
        elif not _PLAIN_LINE.match(each.group(1)):
            return None
    return body


class _Body:
    """Walks the statements of a class body, not what runs later: the bodies of functions."""

    def __init__(self, found: ClassBody) -> None:
        self.found = found

    def block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if isinstance(statement, _FUNCTIONS):
                self.around(statement)
            else:
                self.node(statement)

    def node(self, node: ast.AST) -> None:
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                self.found.read.setdefault(name, node.lineno)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                self.bind(name, node)
                self.around(node)
                return
            case ast.Lambda(args=arguments):
                self.node(arguments)
                return
            case ast.Call(func=ast.Name(id=name)) if name in _NAMESPACES and not self.found.hidden:
                self.found.hidden = node.lineno
        for name in _binds(node):
            self.bind(name, node)
        for child in ast.iter_child_nodes(node):
            self.node(child)

    def around(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        """What a definition evaluates where it stands: decorators, defaults, bases."""
        for decorator in node.decorator_list:
            self.node(decorator)
        if isinstance(node, ast.ClassDef):
            for base in (*node.bases, *node.keywords):
                self.node(base)
        else:
            for default in (*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)):
                self.node(default)

    def bind(self, name: str, node: ast.AST) -> None:
        self.found.bound.setdefault(name, getattr(node, "lineno", 0))


def _binds(node: ast.AST) -> Iterator[str]:
    """The names that a node itself binds or deletes, definitions left out."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            yield from (alias.asname or alias.name.split(".")[0] for alias in aliases)
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            yield from names
