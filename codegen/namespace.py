"""What the names that a function takes from around it mean where it is copied into a module of its own.

def forward(self): super().forward()       the class that it stands in
def forward(self): ... STEP ...            bound again by a `global STEP` of the file, or looked up by globals()
k = 4.0                                    bound in the body of the class
def forward(self, scale=k): ...

The copy of such a function stands for the original: it takes all of this from there.
"""

from __future__ import annotations

import ast
import re

from fusegen.codegen.index import FileIndex, FunctionBlock
from fusegen.codegen.statements import loaded_names

# What asks for the class or the module around a function.
_ASKING = frozenset(
    {"super", "__class__", "globals", "eval", "exec", "__name__", "__file__", "__spec__", "__package__"}
)
_GLOBAL = re.compile(r"^[ \t]+global[ \t]+([^\n#;]+)", re.MULTILINE)


def needs_original(index: FileIndex, block: FunctionBlock) -> bool:
    """Whether a copy of a function in another module must stand for the original."""
    loaded = loaded_names(block.node)
    return bool(_ASKING & loaded or _moving(index.text) & loaded or _of_class(index, block))


def out_of_reach(index: FileIndex, block: FunctionBlock) -> str | None:
    """A name of the class body in a default, a decorator or an annotation that the file itself does not have."""
    return min(_of_class(index, block) - index.names, default=None)


def _moving(text: str) -> frozenset[str]:
    """Names of a module that a function of it may bind again."""
    if "global" not in text:
        return frozenset()
    return frozenset(name.strip() for found in _GLOBAL.findall(text) for name in found.split(","))


def _of_class(index: FileIndex, block: FunctionBlock) -> frozenset[str]:
    """What the head of a method takes from the body of its class, as far as that may be."""
    owner = index.classes.get(block.owner or "")
    if owner is None:
        return frozenset()
    node = block.node
    arguments = node.args
    heads: list[ast.expr | None] = [*node.decorator_list, *arguments.defaults, *arguments.kw_defaults, node.returns]
    heads += [each.annotation for each in ast.walk(arguments) if isinstance(each, ast.arg)]
    names = {name for head in heads if head is not None for name in loaded_names(head)}
    return frozenset(names & (owner.assigned | owner.methods.keys()))
