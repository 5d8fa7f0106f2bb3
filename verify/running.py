"""Runs one case on one model and keeps what can be compared: loss, gradients, the output's form and its tensors."""

from __future__ import annotations

import copy
import inspect
import logging
import traceback
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fusegen.runtime import fused
from fusegen.verify.cases import Case, Inputs
from fusegen.verify.tiny_models import SEED

SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class Ran:
    """A call that gave a loss. `form`: the output's type and the names (or types) of its parts, in order."""

    loss: Tensor
    gradients: Mapping[str, Tensor | None]
    form: tuple[str, ...]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Raised:
    """A call that raised: the exception's type, its message and the innermost line."""

    type: str
    message: str
    place: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message} ({self.place})"


def run(case: Case, model: nn.Module, inputs: Inputs, finer: torch.dtype | None = None) -> Ran | Raised:
    """Calls a copy of `model` as the case says and, in training, goes backward; `model` stays as it is.

    `finer` asks for the reference: the weights of the case, rounded as they are there, computed in that dtype.
    """
    subject: Any = copy.deepcopy(model).to(case.weights).to(finer or case.weights).train(case.training)
    if case.checkpointing:
        subject.gradient_checkpointing_enable()
    converted = {name: _converted(value, finer or case.weights) for name, value in inputs.items()}
    torch.manual_seed(SEED)
    try:
        with _circumstances(case, finer):
            called = torch.compile(subject, backend="aot_eager", fullgraph=True) if case.compiled else subject
            output, loss = _smoothed(subject, converted) if case.smoothing else _called(called, converted)
        if case.training:
            torch.autograd.backward(loss)
    except Exception as error:
        return raised(error)
    finally:
        if case.compiled:
            torch.compiler.reset()
    gradients = {name: parameter.grad for name, parameter in subject.named_parameters()} if case.training else {}
    tensors = {name: value.detach() for name, value in _parts(output) if isinstance(value, Tensor) and name != "loss"}
    return Ran(loss.detach(), gradients, _form(output), tensors)


def raised(error: BaseException) -> Raised:
    """What is kept of an exception: enough to compare two, and to find it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename.rpartition('site-packages/')[2]}:{frames[-1].lineno}" if frames else ""
    return Raised(type(error).__name__, " ".join(str(error).split())[:300], place)


def _circumstances(case: Case, finer: torch.dtype | None) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(nullcontext() if case.training else torch.no_grad())
    if case.compiled:
        # A model whose name says no loss warns about it, and dynamo does not trace what transformers adds to loggers.
        stack.enter_context(torch._dynamo.config.patch(ignore_logger_methods={vars(logging.Logger)["warning_once"]}))
    if case.fuse:
        stack.enter_context(fused(fuse=case.fuse))
    if case.autocast and finer is None:
        stack.enter_context(torch.autocast("cpu", dtype=case.autocast))
    return stack


def _converted(value: Any, dtype: torch.dtype) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to(dtype) if value.is_floating_point() else value.clone()


def _called(model: Any, inputs: Inputs) -> tuple[Any, Tensor]:
    output = model(**inputs)
    loss = output["loss"] if isinstance(output, dict) else output[0]
    if not isinstance(loss, Tensor):
        raise TypeError(f"the output holds no loss, but {type(loss).__name__}")
    return output, loss


def _smoothed(model: nn.Module, inputs: Inputs) -> tuple[Any, Tensor]:
    """What `Trainer.compute_loss` does under `label_smoothing_factor`."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.trainer_pt_utils import LabelSmoother

    given = {name: value for name, value in inputs.items() if name != "labels"}
    if "decoder_input_ids" in inspect.signature(model.forward).parameters:
        # As collators do: the forward has no labels to make them from.
        given.setdefault("decoder_input_ids", inputs["labels"].roll(1, dims=-1).clamp(min=0))
    output = model(**given)
    shift = type(model).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    return output, LabelSmoother(epsilon=SMOOTHING)(output, inputs["labels"], shift_labels=shift)


def _parts(output: Any) -> list[tuple[str, Any]]:
    if isinstance(output, dict):
        return list(output.items())
    return [(str(number), value) for number, value in enumerate(output)] if isinstance(output, tuple) else []


def _form(output: Any) -> tuple[str, ...]:
    names = (name if isinstance(output, dict) else type(value).__name__ for name, value in _parts(output))
    return (type(output).__name__, *names)
