"""Every matched case runs: the original and the emitted function on stub modules; loss, gradients, side effects.

Each runs with labels of which some are ignored and with labels that all count, and once more for other values
that names of its config and its arguments may take, so that conditions take both of their sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from sources import COUNTED, GIVEN, MASK
from stubs import Ran, Setting, World, difference, emission, fused_methods, labels, load, run

BEFORE = Path(__file__).parents[1] / "cases" / "linear_cross_entropy"
AFTER = BEFORE.with_name("linear_cross_entropy_after")
EMITTED = sorted(
    path.stem for path in AFTER.glob("*.py") if "if fusible(" in (text := path.read_text()) or "and fusible(" in text
)


class _Twice(torch.nn.CrossEntropyLoss):
    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(logits, target)


# What makes the guard of a case refuse, where it asks for neither config nor arguments.
CHANGES: dict[str, Callable[[Any], None]] = {
    "criterion_in_a_dict": lambda model: model.loss_fcts.update(ce=_Twice()),
}

# Cases that cannot run in the original, with what it raises. An entry that is not needed any more fails.
CANNOT: dict[str, str] = {
    "cap_in_place_operators": "RuntimeError: torch.tanh needs what the case then multiplies in place",
}

_FLAGS = (None, True, False)


def settings(case: str, first: Ran) -> Iterator[Setting]:
    """The ways in which a case runs, after `first`, which is its run as `GIVEN` says."""
    given = GIVEN.get(case, Setting())
    yield given
    if case in CHANGES:
        yield replace(given, change=CHANGES[case])
    for name in first.parameters:
        if isinstance(given.arguments.get(name), torch.Tensor) or name in ("self", "kwargs", "input_ids"):
            continue
        if "labels" in name:
            yield from (replaced(given, arguments={name: value}) for value in (COUNTED, None))
        else:
            values = (MASK.long(),) if name == "attention_mask" else _FLAGS
            yield from (replaced(given, arguments={name: value}) for value in values)
    if "kwargs" in first.parameters:
        yield replaced(given, arguments={"num_items_in_batch": 5, "softcap": 1.0, "ignore_index": 3})
        yield replaced(given, arguments={"shift_labels": labels(1)})
    for name, value in first.read.items():
        if name not in ("hidden_size", "vocab_size") and isinstance(value, bool | float | int):
            others = (not value,) if isinstance(value, bool) else numbers(case, name)
            yield from (replaced(given, config={name: other}) for other in others)
    yield Setting(given.config, given.arguments, torch.float64)


def numbers(case: str, name: str) -> tuple[float | None, ...]:
    """Other numbers for a name of the config; 0 only where no operation needs it. None raises where it is needed."""
    chain = next((line for line in source(case).splitlines() if line.startswith("# chain:")), "")
    return (None, 1, 3, 9) if name in chain else (None, 0, 1, 3, 9)


def replaced(given: Setting, **changed: dict[str, Any]) -> Setting:
    both = {name: getattr(given, name) | values for name, values in changed.items()}
    return replace(given, **both)


def source(case: str) -> str:
    return (BEFORE / f"{case}.py").read_bytes().decode()


def read(case: str) -> tuple[World, dict[str, dict[str, Any]]]:
    world = load(source(case))
    return world, fused_methods(world, emission(world))


@pytest.mark.parametrize("case", EMITTED)
def test_the_emitted_function_does_what_the_original_does(case: str) -> None:
    world, classes = read(case)
    assert classes, "the after file has a fused branch"
    outcomes: set[str] = set()
    losses: set[float] = set()
    for owner, methods in classes.items():
        first = run(world, owner, None, GIVEN.get(case, Setting()))
        assert (first.raised or "") in CANNOT.get(case, ""), f"{first.raised}: {first.message}"
        for setting in settings(case, first) if case not in CANNOT else ():
            stock, fused = run(world, owner, None, setting), run(world, owner, methods, setting)
            assert difference(stock, fused) is None, setting
            outcomes |= set(fused.outcomes)
            if fused.fused and isinstance(fused.loss, torch.Tensor):
                losses.add(round(float(fused.loss.detach().sum()), 4))
    if case in CANNOT:
        assert first.raised, "it runs: take it out of CANNOT"
        return
    assert "fused" in outcomes
    assert "FG520" in outcomes or "where=" not in (AFTER / f"{case}.py").read_text(), "the guard never refused"
    assert len(losses) > 1 or " when " not in source(case).partition("\n\n")[0], "the condition is never otherwise"
