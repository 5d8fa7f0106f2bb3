"""A fast text pass over a modeling file: its classes, functions and imports, each parsed only when asked for.

Splitting at the lines that start a definition costs a hundredth of parsing them. Where the split is wrong
(a string that holds such a line at the margin), a block fails to parse, and the whole file is parsed
instead: slower, never different.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import StringIO

from fusegen.codegen.class_body import ClassBody, class_body

# Patterns that begin with a newline: `re` looks for one many times faster than for the start of a line.
_TOP = re.compile(r"\n(?:class[ \t]+(\w+)|(?:async[ \t]+)?def[ \t]+(\w+)|@|[^\s#)\]}])")
_METHOD = re.compile(r"\n([ \t]+)(?:(?:async[ \t]+)?def[ \t]+(\w+)|@)")

# A function under a condition that computes a loss, or calls what does.
_CONDITIONAL = re.compile(
    r"\n[ \t]+(?:async[ \t]+)?def[ \t]+\w+(?s:.*?)(?:cross_entropy|CrossEntropyLoss|loss_function|nll_loss)"
)

_IMPORTING = ("import ", "from ", "if ", "elif ", "else:", "try:", "except", "finally:", "with ", "for ", "while ")
_ASSIGNED = re.compile(r"(\w+)[ \t]*(?::[^=\n]*)?=(?!=)|(\w+)[ \t]*,[^=\n]*=(?!=)")


@dataclass(slots=True)
class Block:
    """The text of one definition and the line that its first character stands on."""

    text: str
    line: int


class FunctionBlock:
    """A function or method that is parsed on first use."""

    def __init__(
        self, name: str, owner: str | None, block: Block, node: ast.FunctionDef | ast.AsyncFunctionDef | None = None
    ) -> None:
        self.name = name
        self.owner = owner
        self._block = block
        if node is not None:
            self.__dict__["node"] = node

    @property
    def text(self) -> str:
        return self._block.text

    @property
    def line(self) -> int:
        return self._block.line

    @cached_property
    def node(self) -> ast.FunctionDef:
        """The definition with the line numbers of the file. Raises `SyntaxError` if the text is not one function."""
        indented = self._block.text[:1] in " \t"
        # Empty lines before the text give every node its line in the file.
        start = "\n" * (self._block.line - 2) + "class _:\n" if indented else "\n" * (self._block.line - 1)
        tree = ast.parse(start + self._block.text)
        body = tree.body[0].body if indented else tree.body  # type: ignore[attr-defined]
        if len(tree.body) != 1 or len(body) != 1 or not isinstance(body[0], ast.FunctionDef | ast.AsyncFunctionDef):
            raise SyntaxError(f"the text of {self.name} at line {self.line} is not one function")
        return body[0]  # type: ignore[return-value]


class ClassBlock:
    """A class: its methods are told apart on first use, its header and each method parsed on first use."""

    def __init__(
        self,
        name: str,
        block: Block,
        methods: dict[str, FunctionBlock] | None = None,
        *,
        decorators: str = "",
        node: ast.ClassDef | None = None,
    ) -> None:
        self.name = name
        self.block = block
        self._decorators = decorators
        self._node = node
        if methods is not None:
            self.__dict__["methods"] = methods

    @property
    def text(self) -> str:
        return self.block.text

    @cached_property
    def methods(self) -> dict[str, FunctionBlock]:
        """The functions in the class body, the last one where a name stands twice."""
        text = self.text
        found = list(_METHOD.finditer(text))
        indent = next((match.group(1) for match in found), "")
        starts: list[tuple[int, str]] = []
        decorated_from: int | None = None
        for match in found:
            if match.group(1) != indent:
                continue
            start = match.start(1)
            if match.group(2) is None:
                decorated_from = start if decorated_from is None else decorated_from
            else:
                starts.append((start if decorated_from is None else decorated_from, match.group(2)))
                decorated_from = None
        methods: dict[str, FunctionBlock] = {}
        line, seen = self.block.line, 0
        if starts and re.search(r"\n[ \t]+(?:async[ \t]+)?def\b", text[: starts[0][0]]):
            raise SyntaxError(f"{self.name} defines something under a condition")
        for number, (start, name) in enumerate(starts):
            line += text.count("\n", seen, start)
            seen = start
            end = starts[number + 1][0] if number + 1 < len(starts) else len(text)
            piece = text[start:end]
            _check_whole(piece, name, line)
            methods[name] = FunctionBlock(name, self.name, Block(piece, line))
        return methods

    @cached_property
    def body(self) -> ClassBody:
        """What the class body does besides defining methods. Raises `SyntaxError`."""
        return class_body(self.text, self.block.line, self._node)

    @property
    def assigned(self) -> Mapping[str, int]:
        """Names that the class body binds otherwise than by a plain definition, with the line."""
        return self.body.bound

    @cached_property
    def definition(self) -> ast.ClassDef:
        """The whole class with its decorators, at the lines of the file. Raises `SyntaxError`."""
        if self._node is not None:
            return self._node
        above = self._decorators
        tree = ast.parse("\n" * (self.block.line - above.count("\n") - 1) + above + self.text)
        (node,) = (each for each in tree.body if isinstance(each, ast.ClassDef))
        return node

    @cached_property
    def header(self) -> ast.ClassDef:
        """The class without its body: decorators, bases and keywords."""
        if self._node is not None:
            return self._node
        above = self._decorators
        start = "\n" * (self.block.line - above.count("\n") - 1) + above
        node = ast.parse(f"{start}{_header_only(self.text)} pass").body[0]
        assert isinstance(node, ast.ClassDef)
        return node

    @cached_property
    def bases(self) -> tuple[str, ...]:
        """The base classes as they are spelled: `("nn.Module",)`."""
        if "(" not in self.text.split("\n", 1)[0]:
            return ()
        return tuple(ast.unparse(base) for base in self.header.bases)


def _check_whole(piece: str, name: str, line: int) -> None:
    """Raise `SyntaxError` where a piece may start or end inside a string: then its text is not what runs."""
    if piece.count('"""') % 2 or piece.count("'''") % 2:
        raise SyntaxError(f"a string may reach over the margin of {name} at line {line}")


def _header_only(text: str) -> str:
    depth = 0
    for position, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if character == ":" and depth == 0:
            return text[: position + 1]
    return text


def _definitions(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, first those that always run, then those under conditions in it."""
    yield from body
    for node in body:
        if isinstance(node, ast.If | ast.Try | ast.TryStar | ast.With | ast.For | ast.While):
            for suite in ("body", "orelse", "finalbody"):
                yield from _definitions(getattr(node, suite, []))
            for handler in getattr(node, "handlers", []):
                yield from _definitions(handler.body)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt | ast.expr]:
    """Statements of a module and of the conditions in it, not of its functions and classes; tests and targets too."""
    for node in body:
        if isinstance(node, ast.If | ast.Try | ast.TryStar | ast.With | ast.For | ast.While):
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    yield child
                elif isinstance(child, ast.withitem) and child.optional_vars is not None:
                    yield child.optional_vars
                elif isinstance(child, ast.ExceptHandler):
                    yield from _statements(child.body)
            yield from _statements([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])
        else:
            yield node


class FileIndex:
    """What a modeling file defines, found by text. `whole()` rebuilds it from a full parse."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.classes: dict[str, ClassBlock] = {}
        self.functions: dict[str, FunctionBlock] = {}
        self._margin: list[tuple[int, int]] = []
        self.repeated: dict[str, int] = {}
        self.conditional: dict[str, int] = {}
        self._mro: dict[str, list[ClassBlock]] = {}
        self._split()

    def _split(self) -> None:
        # One newline before the text: a match starts where its line does in the text itself.
        starts = [(match.start(), match.group(1), match.group(2)) for match in _TOP.finditer("\n" + self.text)]
        line, seen = 1, 0
        decorated_from: int | None = None
        for number, (start, class_name, function_name) in enumerate(starts):
            end = starts[number + 1][0] if number + 1 < len(starts) else len(self.text)
            if class_name or function_name:
                line += self.text.count("\n", seen, start)
                seen = start
                if class_name:
                    above = self.text[decorated_from:start] if decorated_from is not None else ""
                    self._add(ClassBlock(class_name, Block(self.text[start:end], line), decorators=above))
                else:
                    first = start if decorated_from is None else decorated_from
                    first_line = line - self.text.count("\n", first, start)
                    _check_whole(self.text[first:end], function_name, first_line)
                    self.functions[function_name] = FunctionBlock(
                        function_name, None, Block(self.text[first:end], first_line)
                    )
                decorated_from = None
            elif self.text[start] == "@":
                decorated_from = start if decorated_from is None else decorated_from
            elif decorated_from is None:
                self._margin.append((start, end))
                if _CONDITIONAL.search(self.text, start, end):
                    raise SyntaxError("functions are defined under a condition")

    def _add(self, block: ClassBlock) -> None:
        """Note a class; of two with one name the last one counts, and `repeated` has its line."""
        if block.name in self.classes:
            self.repeated[block.name] = block.block.line
        self.classes[block.name] = block

    @cached_property
    def imports(self) -> dict[str, str]:
        """Names that module-level imports bind, to what they stand for; relative ones start with dots."""
        return {name: paths[0] for name, paths in self._bound.items() if len(paths) == 1 and paths[0]}

    @cached_property
    def ambiguous(self) -> frozenset[str]:
        """Names that the module binds in more ways than one: a definition and an assignment, two imports, ..."""
        defined = self.classes.keys() | self.functions.keys()
        return frozenset(name for name, paths in self._bound.items() if len(paths) > 1 or name in defined)

    def margin_pieces(self, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
        """Where a pattern occurs in the statements at the margin, and what it matched there."""
        for start, end in self._margin:
            for match in pattern.finditer(self.text, start, end):
                yield match.start(), match.group().rstrip("( \t")

    @cached_property
    def own(self) -> frozenset[str]:
        """Names that this file gives their meaning: what it defines, assigns, or imports from more than one place."""
        assigned = (name for name, paths in self._bound.items() if paths != [self.imports.get(name)])
        return frozenset([*self.classes, *self.functions, *assigned])

    @cached_property
    def names(self) -> frozenset[str]:
        """Names that the module itself binds."""
        return frozenset({*self.classes, *self.functions, *self._bound})

    @cached_property
    def _bound(self) -> dict[str, list[str]]:
        """Names to all that statements at the margin bind them to; "" for what is no import."""
        found: dict[str, list[str]] = {}

        def bind(name: str, path: str) -> None:
            paths = found.setdefault(name, [])
            if path not in paths:
                paths.append(path)

        pieces: list[str] = []
        for start, end in self._margin:
            if self.text.startswith(_IMPORTING, start):
                pieces.append(self.text[start:end])
            elif assigned := _ASSIGNED.match(self.text, start):
                bind(assigned.group(1) or assigned.group(2), "")
        for node in _statements(ast.parse("".join(pieces)).body):
            match node:
                case ast.Import(names=aliases):
                    for alias in aliases:
                        name = alias.name.split(".")[0]
                        bind(alias.asname or name, alias.name if alias.asname else name)
                case ast.ImportFrom(module=module, names=aliases, level=level):
                    for alias in aliases:
                        bind(alias.asname or alias.name, f"{'.' * level}{module or ''}.{alias.name}")
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    bind(name, "")
                case _:
                    for child in ast.walk(node):
                        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                            bind(child.id, "")
        return found

    @classmethod
    def whole(cls, text: str) -> FileIndex:
        """The same index from a parse of the whole file. Raises `SyntaxError` if the file is not Python."""
        index = cls.__new__(cls)
        index.text, index.classes, index.functions, index._margin, index._mro = text, {}, {}, [], {}
        index.repeated, index.conditional = {}, {}
        lines = StringIO(text).readlines()  # ends lines where the parser does: not at a form feed
        tree = ast.parse(text)
        for node in _definitions(tree.body):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node not in tree.body:
                if node.name in index.classes or node.name in index.functions:
                    continue
                index.conditional[node.name] = node.lineno
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            block = Block("".join(lines[first - 1 : node.end_lineno]), first)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                index.functions[node.name] = FunctionBlock(node.name, None, block, node)
            elif isinstance(node, ast.ClassDef):
                methods: dict[str, FunctionBlock] = {}
                for item in _definitions(node.body):
                    if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                        if item.name in methods and item not in node.body:
                            continue
                        start = min([item.lineno, *(d.lineno for d in item.decorator_list)])
                        piece = Block("".join(lines[start - 1 : item.end_lineno]), start)
                        methods[item.name] = FunctionBlock(item.name, node.name, piece, item)
                own = Block("".join(lines[node.lineno - 1 : node.end_lineno]), node.lineno)
                index._add(ClassBlock(node.name, own, methods, node=node))
            if node in tree.body and not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                start = sum(len(line) for line in lines[: first - 1])
                index._margin.append((start, start + len(block.text)))
        return index

    def mro(self, name: str) -> list[ClassBlock]:
        """The class and its bases that stand in this file, nearest first."""
        if name not in self._mro:
            self._mro[name] = self._linearised(name)
        return self._mro[name]

    def _linearised(self, name: str) -> list[ClassBlock]:
        found: list[ClassBlock] = []
        queue = [name]
        while queue:
            block = self.classes.get(queue.pop(0))
            if block is not None and block not in found:
                found.append(block)
                queue.extend(block.bases)
        return found

    def method(self, class_name: str, method: str) -> FunctionBlock | None:
        """The method that an instance of the class runs, if the class or a base in this file defines it for sure."""
        for block in self.mro(class_name):
            if method in block.assigned:
                return None
            if method in block.methods:
                return block.methods[method]
        return None
