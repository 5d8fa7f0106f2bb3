"""What a logit operation reads off a value: itself and what it was applied to, or why it must refuse."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Protocol

from fusegen.codegen.values import Value


@dataclass(frozen=True, slots=True)
class Step:
    """`op` applied to `inner` gives the value that was read. `op` "" changes no entry (a copy, a move, a view).

    `rows` marks operations that only choose or reorder rows; `width` is the last dimension that a reshape spells,
    and `flat` says that the result has one row per label and nothing else.
    """

    op: str
    inner: Value
    arguments: tuple[tuple[str, Value], ...] = ()
    node: ast.AST | None = None
    rows: bool = False
    width: Value | None = None
    flat: bool = False
    when: Value | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rejection code, the place, and what was found there."""

    code: str
    node: ast.AST | None
    detail: str


class Kinds(Protocol):
    """What an operation may ask about its operands."""

    def is_scalar(self, value: Value) -> bool: ...

    def is_vocabulary_bias(self, value: Value) -> bool: ...

    def has_head(self, value: Value) -> bool: ...

    def is_full_width(self, logits: Value, width: Value) -> bool: ...
