"""Installed forwards under `torch.compile`: one graph for every batch, and a fresh one when the decision changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from families import FAMILIES, VOCABULARY, Family, text_batch
from torch._dynamo.utils import counters
from torch.nn.modules.module import register_module_forward_hook
from transformers.loss import loss_utils

from fusegen.kernels.linear_cross_entropy.operators import LinearCrossEntropy
from fusegen.runtime import coverage, fused, install
from fusegen.runtime.policy import policy

BY_NAME = {family.name: family for family in FAMILIES}
# A plain head, a soft cap, a head with a bias, an encoder-decoder, experts with an auxiliary loss.
COMPILED = [
    "LlamaForCausalLM",
    "Gemma2ForCausalLM",
    "ModernBertDecoderForCausalLM",
    "BartForConditionalGeneration",
    "MixtralForCausalLM",
]
STEPS = 20


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    install()
    yield
    torch._dynamo.reset()


def shallow(name: str) -> Family:
    """The family with as few layers as it can have, since tracing takes its time for each."""
    family = BY_NAME[name]
    depth = {key: 1 for key in ("num_hidden_layers", "encoder_layers", "decoder_layers") if key in family.settings}
    return replace(family, settings=family.settings | depth)


def batches(family: Family) -> Iterator[dict[str, Any]]:
    """Other tokens and other ignored labels in every step, from none to all."""
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        ids = torch.randint(3, VOCABULARY - 4, (2, 10), generator=generator)
        ignored = torch.rand(ids.shape, generator=generator) < step / (STEPS - 1)
        batch = {"input_ids": ids, "labels": ids.masked_fill(ignored, -100), "num_items_in_batch": (~ignored).sum()}
        yield batch | family.extra


def loss_and_gradients(model: torch.nn.Module, called: Callable[..., Any], batch: dict[str, Any]) -> Any:
    model.zero_grad()
    output = called(**batch)
    assert output.logits is None
    output.loss.backward()
    return output.loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def compiled_llama() -> tuple[torch.nn.Module, Callable[..., Any], dict[str, Any]]:
    """A model whose compiled forward has run once, fused."""
    model, batch = shallow("LlamaForCausalLM").build(), text_batch()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    output = compiled(**batch)
    assert output.logits is None
    torch.testing.assert_close(output.loss, model(**batch).loss)
    return model, compiled, batch


@pytest.mark.parametrize("name", COMPILED)
def test_one_graph_for_all_patterns_of_ignored_tokens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = shallow(name)
    model = family.build()
    expected = [loss_and_gradients(model, model, batch) for batch in batches(family)]
    saved = []
    save_context = LinearCrossEntropy.save_context

    def watched(ctx: Any, inputs: Any, tensors: Any) -> None:
        saved.append(type(tensors[0]).__name__)
        save_context(ctx, inputs, tensors)

    monkeypatch.setattr(LinearCrossEntropy, "save_context", staticmethod(watched))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for batch, wanted in zip(batches(family), expected, strict=True):
        torch.testing.assert_close(
            loss_and_gradients(model, compiled, batch), wanted, rtol=1e-4, atol=1e-4, equal_nan=True
        )
    assert counters["stats"]["unique_graphs"] == 1, "a recompilation"
    assert not counters["graph_break"]
    # Dynamo asks for the outputs' shapes, AOTAutograd for what they alias, then it traces forward and backward.
    assert saved == ["FakeTensor", "FunctionalTensor", "FunctionalTensor"]


def test_batches_of_other_lengths_share_a_graph() -> None:
    """The first one has its own; the second makes the length a variable, as it does for the original."""
    model, compiled, batch = compiled_llama()
    for length in (12, 7, 30):
        longer = {name: values.repeat(1, 3)[:, :length].contiguous() for name, values in batch.items()}
        torch.testing.assert_close(compiled(**longer).loss, model(**longer).loss)
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.slow
def test_inductor() -> None:
    family = shallow("LlamaForCausalLM")
    model = family.build()
    compiled = torch.compile(model, fullgraph=True)
    for batch in list(batches(family))[::8]:
        wanted = loss_and_gradients(model, model, batch)
        torch.testing.assert_close(loss_and_gradients(model, compiled, batch), wanted, rtol=1e-4, atol=1e-4)


class LowRankLinear(torch.nn.Linear):
    """What an adapter library puts in the place of a head."""


def evaluating(model: torch.nn.Module) -> None:
    model.eval()


def never_for_the_process(model: torch.nn.Module) -> None:
    policy.set("never")


def hooked(model: torch.nn.Module) -> None:
    model.lm_head.register_forward_hook(lambda module, inputs, logits: logits * 2)


def hooked_everywhere(model: torch.nn.Module) -> Any:
    return register_module_forward_hook(
        lambda module, inputs, output: output * 2 if module is model.lm_head else None
    ).remove


def replaced_forward(model: torch.nn.Module) -> None:
    head = model.lm_head
    head.forward = lambda hidden: torch.nn.functional.linear(hidden, head.weight) * 2


def adapted(model: torch.nn.Module) -> None:
    model.lm_head.__class__ = LowRankLinear


def own_loss(model: torch.nn.Module) -> None:
    model.loss_function = lambda logits, labels, vocab_size, **kwargs: logits.sum()


def in_loss_utils(text: str) -> dict[str, Any]:
    """What a text defines as if it stood in the file of the stock losses."""
    made: dict[str, Any] = {}
    exec(text, vars(loss_utils), made)
    return made


def rewritten_loss(model: torch.nn.Module) -> Any:
    made = in_loss_utils("def ForCausalLMLoss(logits, *args, **kwargs): return logits.sum()")["ForCausalLMLoss"]
    patch = pytest.MonkeyPatch()
    patch.setattr(loss_utils, "ForCausalLMLoss", made)
    patch.setitem(loss_utils.LOSS_MAPPING, "ForCausalLM", made)
    return patch.undo


def rewritten_inner_loss(model: torch.nn.Module) -> Any:
    patch = pytest.MonkeyPatch()
    made = in_loss_utils("def fixed_cross_entropy(source, *args, **kwargs): return source.sum()")
    patch.setattr(loss_utils, "fixed_cross_entropy", made["fixed_cross_entropy"])
    return patch.undo


def rewritten_in_place(model: torch.nn.Module) -> Any:
    patch = pytest.MonkeyPatch()
    made = in_loss_utils("def fixed_cross_entropy(source, *args, **kwargs): return source.sum()")
    patch.setattr(loss_utils.fixed_cross_entropy, "__code__", made["fixed_cross_entropy"].__code__)
    return patch.undo


def replaced_cross_entropy(model: torch.nn.Module) -> Any:
    patch = pytest.MonkeyPatch()
    patch.setattr(torch.nn.functional, "cross_entropy", lambda logits, *args, **kwargs: logits.sum())
    return patch.undo


def replaced_linear(model: torch.nn.Module) -> Any:
    patch = pytest.MonkeyPatch()
    patch.setattr(torch.nn.functional, "linear", lambda hidden, weight, bias=None: 2 * (hidden @ weight.T))
    return patch.undo


CHANGES = {
    evaluating: "FG511",
    never_for_the_process: "FG511",
    hooked: "FG513",
    hooked_everywhere: "FG513",
    replaced_forward: "FG513",
    adapted: "FG512",
    own_loss: "FG515",
    rewritten_loss: "FG521",
    rewritten_inner_loss: "FG521",
    rewritten_in_place: "FG521",
    replaced_cross_entropy: "FG522",
    replaced_linear: "FG513",
}


def outcomes() -> dict[str, int]:
    (counts,) = coverage().values()
    return counts


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_after_compilation_counts(change: Callable[..., Any]) -> None:
    model, compiled, batch = compiled_llama()
    undo = change(model) or (lambda: None)
    try:
        output = compiled(**batch)
        assert set(outcomes()) == {"fused", CHANGES[change]}
        expected = model(**batch)
    finally:
        undo()
    torch.testing.assert_close(output.logits, expected.logits)
    torch.testing.assert_close(output.loss, expected.loss)


def test_going_back_takes_the_first_graph_again() -> None:
    model, compiled, batch = compiled_llama()
    for _ in range(2):
        assert compiled.eval()(**batch).logits is not None
        assert compiled.train()(**batch).logits is None
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.parametrize("inside", [False, True], ids=["around", "inside"])
def test_a_block_decides_for_what_is_compiled(inside: bool) -> None:
    model, batch = shallow("LlamaForCausalLM").build(), text_batch()

    def called(fuse: str) -> Any:
        with fused(fuse=fuse) if inside else nullcontext():
            return model(**batch)

    compiled = torch.compile(called, fullgraph=True, backend="eager")
    for fuse in ("always", "never", "training", "never"):
        around: AbstractContextManager[None] = nullcontext() if inside else fused(fuse=fuse)
        with around:
            assert (compiled(fuse).logits is None) == (fuse != "never")
    assert policy.fuse == "training"


def test_a_tuple_keeps_its_logits() -> None:
    model, compiled, batch = compiled_llama()
    with fused(fuse="never"):
        expected = model(**batch, return_dict=False)
    output = compiled(**batch, return_dict=False)
    assert len(output) == len(expected)
    torch.testing.assert_close(output[:2], expected[:2])
    assert compiled(**batch).logits is None
