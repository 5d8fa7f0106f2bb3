"""Deliberately wrong rewrites: each must be caught, or the checks prove nothing.

A mutation edits what a generated forward hands to its loss, as if the generator had written it so; the auxiliary
loss is dropped where the forward takes it from, and media go wrong where they enter the forward.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fusegen.verify.losses import Arguments, Edit, edited, losses_of, without
from fusegen.verify.media import IGNORED
from fusegen.verify.recipes import holds

Forward = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A wrong rewrite, the classes to try it on, and how it changes the arguments of the loss."""

    name: str
    classes: tuple[str, ...]
    edit: Edit

    def __call__(self, owner: Any) -> None:
        """Breaks the forward that was installed on a class."""
        for cell in losses_of(inspect.unwrap(owner.forward)):
            cell.cell_contents = edited(cell.cell_contents, self.edit)


@dataclass(frozen=True, slots=True)
class DroppedAuxiliaryLoss:
    """The auxiliary loss counts as nothing."""

    name: str = "aux loss dropped"
    classes: tuple[str, ...] = ("MixtralForCausalLM",)

    def __call__(self, owner: Any) -> None:
        """Breaks the module of a class, whose original has run by now."""
        vars(sys.modules[owner.__module__])["load_balancing_loss_func"] = lambda *arguments, **keywords: torch.zeros(())


@dataclass(frozen=True, slots=True)
class MediaMutation:
    """A wrong way of the media into a forward, the classes to try it on, and what is done to the forward."""

    name: str
    classes: tuple[str, ...]
    wrap: Callable[[Forward], Forward]

    def __call__(self, owner: Any) -> None:
        """Breaks the forward that was installed on a class."""
        owner.forward = self.wrap(owner.forward)


def _scale_inverted(arguments: Arguments) -> None:
    for one, other in (("scale", "divisor"), ("divisor", "scale")):
        if arguments.get(one) is not None:
            arguments[other] = arguments.pop(one)
            return


def _shifted_too_far(arguments: Arguments) -> None:
    arguments["labels"] = arguments["labels"].roll(-1, dims=-1)


def _ignored_counted(arguments: Arguments) -> None:
    arguments["labels"] = arguments["labels"].masked_fill(arguments["labels"] == IGNORED, 0)


def _bias_dropped(arguments: Arguments) -> None:
    arguments.pop("vocab_bias", None)
    arguments["head"] = copy.copy(arguments["head"])
    arguments["head"]._parameters = arguments["head"]._parameters | {"bias": None}


def _summed(arguments: Arguments) -> None:
    arguments["reduction"] = "sum"


def _averaged_over_one(arguments: Arguments) -> None:
    arguments["num_items_in_batch"] = 1


def _aligned(arguments: Arguments) -> None:
    if arguments.get("shift_labels") is None:
        arguments["shift_labels"] = arguments["labels"]


def _media_edited(edit: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[[Forward], Forward]:
    media = {name for kind, names in holds().items() if kind != "text" for name in names}

    def wrap(forward: Forward) -> Forward:
        @functools.wraps(forward)
        def wrong(self: nn.Module, **keywords: Any) -> Any:
            return forward(self, **{name: edit(value) if name in media else value for name, value in keywords.items()})

        return wrong

    return wrap


def _towers_without_gradient(forward: Forward) -> Forward:
    @functools.wraps(forward)
    def wrong(self: nn.Module, **keywords: Any) -> Any:
        for name, module in self.named_modules():
            if name.endswith("tower"):
                module.requires_grad_(False)
        return forward(self, **keywords)

    return wrong


MUTATIONS: tuple[Mutation | DroppedAuxiliaryLoss | MediaMutation, ...] = (
    Mutation("soft cap dropped", ("Gemma2ForCausalLM",), without("softcap")),
    Mutation("scale inverted", ("CohereForCausalLM", "GraniteForCausalLM"), _scale_inverted),
    Mutation("shift off by one", ("LlamaForCausalLM",), _shifted_too_far),
    Mutation("ignored tokens counted", ("LlamaForCausalLM", "T5ForConditionalGeneration"), _ignored_counted),
    Mutation("bias dropped", ("PhiForCausalLM", "BartForConditionalGeneration"), _bias_dropped),
    Mutation("wrong reduction", ("T5ForConditionalGeneration",), _summed),
    Mutation("wrong divisor", ("LlamaForCausalLM",), _averaged_over_one),
    Mutation("wrong vocabulary slice", ("InklingForCausalLM",), without("valid_vocab")),
    Mutation("labels aligned", ("LlamaForCausalLM", "Gemma2ForCausalLM"), _aligned),
    Mutation("accumulation divisor ignored", ("LlamaForCausalLM",), without("num_items_in_batch")),
    DroppedAuxiliaryLoss(),
    MediaMutation(
        "media dropped",
        ("LlavaForConditionalGeneration", "Qwen2AudioForConditionalGeneration"),
        _media_edited(lambda _: None),
    ),
    MediaMutation(
        "media of another row", ("LlavaForConditionalGeneration",), _media_edited(lambda media: media.flip(0))
    ),
    MediaMutation("towers without gradient", ("LlavaForConditionalGeneration",), _towers_without_gradient),
)
