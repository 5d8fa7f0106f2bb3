"""The checks: how a batch, a model and the circumstances of a call differ from a plain training step.

A check is what is called; what has to come of it is in `comparison`. An edit of the inputs that gives None says
that the check does not apply to a forward with these arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fusegen.runtime import reasons
from fusegen.verify.media import IGNORED

Inputs = dict[str, Any]
PLAIN = "plain"
KNOBS_OFF = "knobs off"
FLIPPED_TYING = "flipped tying"


def _as_it_is(inputs: Inputs) -> Inputs | None:
    return inputs


@dataclass(frozen=True, slots=True)
class Case:
    """One way to call a forward.

    Attributes:
        edit: makes the inputs from those of the plain step.
        first_row: the inputs are those of the batch's first row alone.
        build: which model: plain, with its optional knobs off, or with tying flipped.
        weights: dtype of the weights and of floating inputs.
        autocast: dtype of an autocast region around the call.
        smoothing: labels go to the Trainer's smoother and not into the model.
        refusals: codes of guards for which not fusing is right; None: whatever the guard says.
    """

    name: str
    core: bool = True
    edit: Callable[[Inputs], Inputs | None] = _as_it_is
    first_row: bool = False
    build: str = PLAIN
    training: bool = True
    fuse: str | None = None
    weights: torch.dtype = torch.float32
    autocast: torch.dtype | None = None
    smoothing: bool = False
    checkpointing: bool = False
    compiled: bool = False
    fused: bool = True
    refusals: tuple[str, ...] | None = ()

    @property
    def precision(self) -> torch.dtype:
        """The coarsest dtype that takes part."""
        return self.autocast or self.weights


def _all_ignored(inputs: Inputs) -> Inputs | None:
    return inputs | {"labels": torch.full_like(inputs["labels"], IGNORED)} if "labels" in inputs else None


def _shifted_by_the_caller(inputs: Inputs) -> Inputs | None:
    labels = inputs.get("labels")
    if labels is None:
        return None
    return inputs | {"shift_labels": labels.roll(-2, dims=-1)}


def _items(number: Any) -> Callable[[Inputs], Inputs | None]:
    return lambda inputs: inputs | {"num_items_in_batch": number}


def _kept(inputs: Inputs) -> Inputs | None:
    labels = inputs.get("labels")
    if labels is None or labels.dim() < 2:
        return None
    return inputs | {"logits_to_keep": 5, "labels": labels[:, -5:]}


def _kept_by_a_mask(inputs: Inputs) -> Inputs | None:
    labels = inputs.get("labels")
    if labels is None or labels.dim() != 2:
        return None
    mask = torch.zeros_like(labels, dtype=torch.bool)
    mask[:, ::3] = True
    return inputs | {"logits_to_keep": mask, "shift_labels": labels[mask]}


def _as_a_tuple(inputs: Inputs) -> Inputs | None:
    return inputs | {"return_dict": False}


CASES: tuple[Case, ...] = (
    Case("some ignored"),
    Case("all ignored", edit=_all_ignored),
    Case("batch of one", first_row=True),
    Case("shift_labels", edit=_shifted_by_the_caller),
    Case("num_items int", edit=_items(7)),
    Case("num_items tensor", edit=_items(torch.tensor(11))),
    Case("logits_to_keep", edit=_kept),
    Case("tuple", edit=_as_a_tuple, refusals=None),
    Case("evaluation", training=False, fused=False, refusals=(reasons.POLICY,)),
    Case("evaluation fused", training=False, fuse="always"),
    Case("knobs off", build=KNOBS_OFF),
    Case("bf16", weights=torch.bfloat16),
    Case("label smoother", core=False, smoothing=True, fused=False),
    Case("uncut labels", core=False, edit=lambda inputs: inputs | {"logits_to_keep": 5}),
    Case("mask to keep", core=False, edit=_kept_by_a_mask),
    Case("fp16", core=False, weights=torch.float16),
    Case("autocast", core=False, autocast=torch.bfloat16),
    Case("flipped tying", core=False, build=FLIPPED_TYING),
    Case("checkpointing", core=False, checkpointing=True),
    Case("compile", core=False, compiled=True),
)


def chosen_cases(checks: str) -> tuple[Case, ...]:
    """The checks of a set: `core` or `all`."""
    return tuple(case for case in CASES if case.core or checks == "all")
