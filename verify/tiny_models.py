"""A tiny random model of any class with a vocabulary loss, and a batch for it; nothing is downloaded.

    tiny = tiny_model(target)
    tiny.model(**tiny.inputs).loss.backward()

Weights are spread so that the logits are: with a soft cap at its usual 30, logits of 0.1 would not notice it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import Any

import torch
import transformers
from torch import nn

from fusegen.verify.knobs import turn_knobs, turn_knobs_off
from fusegen.verify.recipes import Recipe, recipe
from fusegen.verify.targets import Target
from fusegen.verify.tiny_config import configs_within, tiny_config
from fusegen.verify.tiny_inputs import Batch, tiny_batch

LOGIT_SPREAD = 3.0
SEED = 0


@dataclass(frozen=True, slots=True)
class TinyModel:
    """A model in training and a batch for it.

    `untrained`: why there are parameters that no batch trains, if known. `turned`: the operands of the chain that were
    set, as they read there.
    """

    model: nn.Module
    batch: Batch
    untrained: str = ""
    turned: tuple[str, ...] = ()

    @property
    def inputs(self) -> dict[str, Any]:
        """Keyword arguments for the model, labels among them."""
        return self.batch.inputs


def tiny_model(target: Target, *, knobs: bool = True, flip_tying: bool = False) -> TinyModel:
    """The tiny model of a class: the same weights and inputs at each call.

    Args:
        knobs: sets what the chain mentions far from neutral; False sets what may be None to None.
        flip_tying: ties head and embeddings if the config does not say so, and the reverse.

    Raises:
        NotApplicable: there is no tying to flip.
        whatever the class raises on a config or inputs that do not suit it.
    """
    how = recipe(target.model, target.class_name, transformers.__version__)
    if how.skip:
        raise NotImplementedError(how.skip)
    if how.host and target.subject:
        raise NotImplementedError(f"{target.class_name} is no model by itself, but a part of {how.host}")
    module, name = target.built
    model_class = attrgetter(how.host or name)(import_module(module))
    config = tiny_config(model_class.config_class, how)
    if flip_tying and how.tying:
        raise NotApplicable(how.tying)
    if flip_tying:
        _flip_tying(config)
    torch.manual_seed(SEED)
    model = model_class(config).train()
    _randomize(model)
    owner = _owner(model, target, how)
    turned = (turn_knobs if knobs else turn_knobs_off)(owner, target.chain)
    batch = tiny_batch(model, how)
    _spread_logits(model, owner, target.head, batch.inputs)
    return TinyModel(model, batch, how.untrained or "", turned)


def _owner(model: nn.Module, target: Target, how: Recipe) -> nn.Module:
    """The module that is an instance of the class: the model itself, unless another one hosts it."""
    if not how.host:
        return model
    return next(module for module in model.modules() if type(module).__name__ == target.class_name)


class NotApplicable(Exception):
    """A model cannot be built in a way that its class does not know."""


def _flip_tying(config: Any) -> None:
    part = config.get_text_config(decoder=True)
    if not hasattr(part, "tie_word_embeddings"):
        raise NotApplicable(f"{type(part).__name__} has no tie_word_embeddings")
    tied = not part.tie_word_embeddings
    for part in configs_within(config):
        if hasattr(part, "tie_word_embeddings"):
            part.tie_word_embeddings = tied


@torch.no_grad()
def _randomize(model: nn.Module) -> None:
    """Fills every weight: some classes leave zeros, or memory as it was; biases that are zero hide their loss."""
    generator = torch.Generator().manual_seed(SEED)
    for name, tensor in _weights(model):
        noise = torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
        if tensor.dim() < 2:
            tensor.copy_(torch.nan_to_num(tensor).clamp(-4, 4) + 0.1 * noise)
        elif name.rpartition(".")[2].endswith("bias"):
            tensor.add_(0.5 * noise)
        else:
            tensor.copy_(noise * 0.7 / tensor.shape[-1] ** 0.5)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def _weights(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    for name, buffer in model.named_buffers():
        if name.endswith("logits_bias"):
            yield name, buffer


@torch.no_grad()
def _spread_logits(model: nn.Module, owner: nn.Module, head: str | None, inputs: dict[str, Any]) -> None:
    """Scales the head's weight until its outputs have a spread of `LOGIT_SPREAD`; nothing where no head is known."""
    module = _head(model, owner, head)
    if module is None:
        return
    seen: list[float] = []
    with _watching(module, lambda output: seen.append(float(output.float().std()))):
        model(**inputs)
    if seen and 0 < seen[0] < float("inf"):
        module.weight.data *= LOGIT_SPREAD / seen[0]


def _head(model: Any, owner: nn.Module, head: str | None) -> nn.Linear | None:
    try:
        found = attrgetter(head.removeprefix("self."))(owner) if head else model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return found if isinstance(found, nn.Linear) else None


@contextmanager
def _watching(module: nn.Module, see: Any) -> Iterator[None]:
    handle = module.register_forward_hook(lambda _module, _inputs, output: see(output))
    try:
        yield
    finally:
        handle.remove()
