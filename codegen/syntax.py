"""What Python's syntax says without a walk: operators by their spelling, and what statements bind or change."""

from __future__ import annotations

import ast

from fusegen.codegen.storage import changes

OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.MatMult: "@",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
}


UNARY: dict[type[ast.unaryop], str] = {ast.USub: "-", ast.UAdd: "+", ast.Not: "not", ast.Invert: "~"}


COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}


def bound_in(body: list[ast.stmt]) -> tuple[set[str], list[ast.Attribute]]:
    """Names that statements bind or whose objects they change by subscript or method, and attributes that they set."""
    names: set[str] = set()
    attributes: list[ast.Attribute] = []
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name):
                if not isinstance(node.ctx, ast.Load):
                    names.add(node.id)
                continue
            match node:
                case ast.Subscript(ctx=ast.Store()) | ast.Attribute(ctx=ast.Store()):
                    root = root_name(node)
                    if root is not None:
                        names.add(root)
                    if isinstance(node, ast.Attribute) and root is not None:
                        attributes.append(node)
                case ast.Call(func=ast.Attribute(value=base, attr=attribute)) if changes(attribute):
                    root = root_name(base)
                    if root is not None:
                        names.add(root)
                case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                    names.add(name)
                case ast.ExceptHandler(name=str(name)) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    names.add(name)
                case ast.alias(name=name, asname=alias):
                    names.add(alias or name.split(".")[0])
    return names - {"self"}, attributes


def root_name(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
