"""What became of each call of a patched class: fused, or unfused by a code, with what was found.

    fusible(...)              a refusal is counted at once, and logged once per class, code and finding
    causal_lm_loss(...)       counts what `fusible` let pass: when the fused loss has returned, and not before

What counts is constant for `torch.compile`, which calls it while it traces; what was found is named in eager calls.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

import torch

from fusegen.runtime import reasons
from fusegen.runtime.policy import policy
from fusegen.runtime.swaps import swaps

logger = logging.getLogger("fusegen")

FUSED = "fused"

_NAMED = 5
"""Findings that are kept and logged for one class and code."""


@dataclass(slots=True)
class _Outcome:
    count: int = 0
    found: list[str] = field(default_factory=list)


_calls: dict[type, dict[str, _Outcome]] = {}
_thread = threading.local()


# These are of use for what they do, not for what they return: dynamo puts None into the graph.
@torch.compiler.assume_constant_result
def count(cls: type, outcome: str, found: str = "") -> None:
    """One more call of a class that ended so; it counts for the class whose method fusegen has patched."""
    _thread.expected = None
    cls = swaps.patched_class(cls)
    made = _calls.setdefault(cls, {}).setdefault(outcome, _Outcome())
    made.count += 1
    if outcome == FUSED or (made.count > 1 and (found in made.found or len(made.found) >= _NAMED)):
        return
    made.found += [found] if found else []
    _log(cls, outcome, found)


@torch.compiler.assume_constant_result
def expect(cls: type) -> None:
    """The fused loss that this thread computes next belongs to a call of this class."""
    _thread.expected = cls


@torch.compiler.assume_constant_result
def settle(outcome: str, found: str = "") -> None:
    """What became of the fused loss that was expected; nothing where none was: the loss was called on its own."""
    cls = getattr(_thread, "expected", None)
    if cls is not None:
        count(cls, outcome, found)


def _log(cls: type, outcome: str, found: str) -> None:
    level = logging.INFO if outcome == reasons.POLICY and policy.fuse == "never" else logging.WARNING
    logger.log(
        level, "%s runs unfused: %s %s%s", cls.__name__, outcome, reasons.REASONS[outcome], found and f" [{found}]"
    )


def coverage() -> dict[str, dict[str, int]]:
    """How often each class was called to compute its loss, by outcome: `{"...LlamaForCausalLM": {"fused": 12}}`.

    A class is that whose method fusegen has patched, as `audit` names it; subclasses that inherit it count there.
    A training call without labels counts (FG528), one in evaluation does not. What a checkpoint computes again
    counts again. Under `torch.compile` the tracing of a call counts, once or twice, and the calls of what was
    compiled do not.
    """
    counts: dict[str, dict[str, int]] = {}
    for name, outcomes in _by_name():
        counted = counts.setdefault(name, {})
        for outcome, made in outcomes.items():
            counted[outcome] = counted.get(outcome, 0) + made.count
    return counts


def found() -> dict[str, dict[str, list[str]]]:
    """What was found in the calls that `coverage` counts, a few of each, by class and code."""
    named: dict[str, dict[str, list[str]]] = {}
    for name, outcomes in _by_name():
        for outcome, made in outcomes.items():
            named.setdefault(name, {}).setdefault(outcome, []).extend(made.found)
    return named


def _by_name() -> list[tuple[str, dict[str, _Outcome]]]:
    """A module that was reloaded has another class of the same name."""
    return [(f"{cls.__module__}.{cls.__qualname__}", dict(outcomes)) for cls, outcomes in list(_calls.items())]


def reset_coverage() -> None:
    """Forget all counts; each refusal is logged anew."""
    _calls.clear()
    _thread.expected = None
