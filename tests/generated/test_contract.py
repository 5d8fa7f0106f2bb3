"""What else runs a model: functional calls, checkpointing, per-sample gradients, evaluation without gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from families import FAMILIES, Family, text_batch
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

from fusegen.kernels import backends
from fusegen.kernels.linear_cross_entropy import chunked
from fusegen.runtime import coverage, fused, install

LLAMA = next(family for family in FAMILIES if family.name == "LlamaForCausalLM")
# The experts of Inkling 2 have a gate in float32 and raise in any other dtype.
IN_BFLOAT16 = [family for family in FAMILIES if family.name != "Inkling2ForCausalLM"]
Gradients = dict[str, torch.Tensor]


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> Gradients:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.fixture
def stock() -> tuple[torch.nn.Module, torch.Tensor, Gradients]:
    """A model, and its loss and gradients before anything is installed."""
    model = LLAMA.build()
    loss = model(**text_batch()).loss
    expected = gradients(model, loss)
    install()
    return model, loss.detach(), expected


def outcomes() -> dict[str, int]:
    (counts,) = coverage().values()
    return counts


def test_a_functional_call_trains_the_parameters_that_it_is_given(stock: Any) -> None:
    model, loss, expected = stock
    doubled = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in doubled.parameters():
            parameter.mul_(2)
    output = functional_call(doubled, dict(model.named_parameters()), (), text_batch())
    assert output.logits is None
    torch.testing.assert_close(output.loss.detach(), loss)
    torch.testing.assert_close(gradients(model, output.loss), expected, rtol=1e-4, atol=1e-5)
    assert all(parameter.grad is None for parameter in doubled.parameters())


def test_keywords_that_the_stock_loss_ignores_stay_ignored(stock: Any) -> None:
    """Also those that are named like what the fused loss can do."""
    model, loss, _ = stock
    output = model(**text_batch(), divisor=3.0, valid_vocab=5, vocab_bias=torch.ones(1), head=None, reduction="sum")
    assert output.logits is None
    torch.testing.assert_close(output.loss.detach(), loss)
    fewer = model(**text_batch(), divisor=3.0, num_items_in_batch=4).loss
    assert fewer > 2 * loss


def test_gradients_of_single_samples(stock: Any) -> None:
    """Transforms of functions run the original statements, for which torch has rules."""
    model, _, _ = stock
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters: Gradients, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        batch = {"input_ids": ids[None], "labels": labels[None]}
        return functional_call(model, parameters, (), batch).loss

    batch = text_batch()
    samples = vmap(grad(loss), (None, 0, 0))(parameters, batch["input_ids"], batch["labels"])
    assert outcomes() == {"FG518": 1}
    for row in range(2):
        one = model(**{name: values[row : row + 1] for name, values in batch.items()})
        wanted = gradients(model, one.loss)
        torch.testing.assert_close(
            {name: values[row] for name, values in samples.items()}, wanted, rtol=1e-3, atol=1e-4
        )


def test_checkpointed_layers(stock: Any) -> None:
    model, loss, expected = stock
    model.gradient_checkpointing_enable()
    output = model(**text_batch())
    torch.testing.assert_close(output.loss.detach(), loss)
    torch.testing.assert_close(gradients(model, output.loss), expected, rtol=1e-4, atol=1e-5)
    assert outcomes() == {"fused": 1}


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_model_inside_a_checkpoint(stock: Any, reentrant: bool) -> None:
    model, loss, expected = stock
    batch = text_batch()

    def called(embeddings: torch.Tensor) -> torch.Tensor:
        return model(inputs_embeds=embeddings, labels=batch["labels"]).loss

    again = checkpoint(called, model.get_input_embeddings()(batch["input_ids"]), use_reentrant=reentrant)
    torch.testing.assert_close(again.detach(), loss)
    torch.testing.assert_close(gradients(model, again), expected, rtol=1e-4, atol=1e-5)
    assert outcomes() == {"fused": 2}


def test_a_config_that_asks_for_tuples() -> None:
    """T5, since most originals raise with such a config."""
    family = next(family for family in FAMILIES if family.name == "T5ForConditionalGeneration")
    model = family.build()
    model.config.return_dict = False
    expected = model(**family.batch())
    install()
    output = model(**family.batch())
    assert outcomes() == {"FG516": 1}
    assert [type(entry) for entry in output] == [type(entry) for entry in expected]
    torch.testing.assert_close(output[:2], expected[:2])
    assert model(**family.batch(), return_dict=True).logits is None


@pytest.fixture
def gradients_asked_of_the_kernel() -> Any:
    """Whether each call of the kernel was asked for the gradients of the hidden states and of the head."""
    asked: list[tuple[bool, bool]] = []

    def watched(*tensors: Any, **options: Any) -> Any:
        asked.append((options["need"].hidden, options["need"].weight))
        return chunked.fused_rows(*tensors, **options)

    backends.register_backend(backends.Backend("watched", watched, lambda device, dtype: True))
    yield asked
    backends.unregister_backend("watched")


@pytest.mark.parametrize("family", FAMILIES[:3], ids=str)
@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_evaluation_that_is_fused_does_no_work_for_gradients(
    family: Family, without: Callable[[], Any], gradients_asked_of_the_kernel: list[tuple[bool, bool]]
) -> None:
    model, batch = family.build().eval(), family.batch()
    with torch.no_grad():
        expected = model(**batch).loss
    install(fuse="always")
    with without():
        loss = model(**batch).loss
    torch.testing.assert_close(loss, expected)
    assert gradients_asked_of_the_kernel == [(False, False)]


@pytest.mark.parametrize("family", IN_BFLOAT16, ids=str)
def test_every_choice_gives_one_loss_in_the_dtype_of_the_original(family: Family) -> None:
    model, batch = family.build().bfloat16().eval(), family.batch() | family.extra
    if "pixel_values" in batch or "input_values" in batch:
        (name,) = {"pixel_values", "input_values"} & set(batch)
        batch[name] = batch[name].bfloat16()
    losses = []
    with torch.no_grad():
        expected = model(**batch).loss
        install()
        for fuse in ("training", "never", "always"):
            with fused(fuse=fuse):
                losses.append(model(**batch).loss)
    assert {loss.dtype for loss in losses} == {expected.dtype}
    assert torch.equal(losses[0], expected)
    assert torch.equal(losses[1], expected)
    torch.testing.assert_close(losses[2], expected, rtol=2e-2, atol=0.0)
    assert sum(counts.get("fused", 0) for counts in coverage().values()) >= 1
