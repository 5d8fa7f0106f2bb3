"""Whether a comparison could have failed: for each operation of the chain, would leaving it out have shown?

    soft_cap(cap=self.config.cap)   ->   the knob was turned, the call hands `softcap=`, and without it the loss differs

What cannot be shown is said, and the class is not verified: equal numbers alone prove nothing about an operation
whose operand is neutral, or which never reached the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fusegen.verify.knobs import is_knob
from fusegen.verify.losses import Arguments, Edit, without
from fusegen.verify.operations import CRITERION_KEYWORDS, NEEDS_NO_KEYWORD, OPERATIONS, TRANSFORM_KEYWORDS, Operand
from fusegen.verify.targets import Chain


@dataclass(frozen=True, slots=True)
class Omission:
    """A fused call that lacks an operation, or inverts it: the comparison has to tell it from the original."""

    name: str
    edit: Edit


def gaps(chain: Chain, turned: tuple[str, ...], handed: frozenset[str]) -> Iterator[str]:
    """What the plain step did not exercise: sentences.

    Args:
        chain: the operations of the manifest.
        turned: the operands that were set far from neutral, as they read in the chain.
        handed: the arguments of the fused calls that were not the defaults.
    """
    explained: set[str] = set()
    for step in chain:
        operands = OPERATIONS.get(step["op"])
        if operands is None:
            yield f"`{step['op']}` has no line in verify/operations.py, so nothing shows that leaving it out is noticed"
            continue
        for argument, operand in operands.items():
            if argument not in step:
                continue
            explained.update(operand.keywords)
            if operand.far is not None and is_knob(step[argument]) and step[argument] not in turned:
                yield f"`{step[argument]}` of {step['op']} could not be set far from neutral"
            if step["op"] not in NEEDS_NO_KEYWORD and handed.isdisjoint(operand.keywords):
                yield f"{step['op']} stands in the chain, and the fused call got no {operand.keywords[0]}="
    for keyword in sorted(handed & TRANSFORM_KEYWORDS - explained):
        yield f"the fused call got {keyword}=, and no operation of the chain explains it"


def omissions(chain: Chain, handed: frozenset[str]) -> Iterator[Omission]:
    """The wrong calls of which the comparison has to notice each."""
    for step in chain:
        for argument, operand in OPERATIONS.get(step["op"], {}).items():
            if argument in step and step["op"] != "cast":
                yield from _of_operand(step["op"], operand, handed)
    if "loss_dtype" in handed:
        yield Omission("cast", without("loss_dtype"))
    for keyword in sorted(handed & CRITERION_KEYWORDS):
        yield Omission(f"{keyword}=", without(keyword))


def _of_operand(op: str, operand: Operand, handed: frozenset[str]) -> Iterator[Omission]:
    if not operand.keywords:
        yield Omission(op, _other_rows)
    for keyword in operand.keywords:
        if keyword in handed:
            yield Omission(op, without(keyword))
            if operand.inverse:
                yield Omission(f"{op}, which is inverted,", _renamed(keyword, operand.inverse))


def _renamed(keyword: str, other: str) -> Edit:
    def edit(arguments: Arguments) -> None:
        if arguments.get(keyword) is not None:
            arguments[other] = arguments.pop(keyword)

    return edit


def _other_rows(arguments: Arguments) -> None:
    arguments["hidden_states"] = arguments["hidden_states"].flip(-2)


Noticed = Callable[[Omission], bool]


def unnoticed(chain: Chain, handed: frozenset[str], notices: Noticed) -> Iterator[str]:
    """The omissions that the comparison does not notice, as sentences; `notices` makes one and compares."""
    for omission in omissions(chain, handed):
        if not notices(omission):
            yield f"the comparison does not notice a fused call without {omission.name}"
