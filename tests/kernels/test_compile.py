"""One graph, traced once: a generated Llama forward under `torch.compile`, over steps that ignore other tokens."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
transformers = pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from torch._dynamo.utils import counters  # noqa: E402

from fusegen.kernels import linear_cross_entropy  # noqa: E402
from fusegen.kernels.linear_cross_entropy.operators import LinearCrossEntropy  # noqa: E402
from fusegen.kernels.ops import CrossEntropy, Linear, Sequence, SoftCap  # noqa: E402

VOCABULARY = 64


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


@pytest.fixture
def model(monkeypatch):
    """A tiny Llama whose forward is the generated one, with the guards (which are not compiled here) granted."""
    from fusegen.generated.llama import modeling_llama

    monkeypatch.setattr(modeling_llama, "fusible", lambda module, head, labels, loss=None: labels is not None)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 32}
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, **sizes
    )
    return modeling_llama.LlamaForCausalLM(config)


def batches(count):
    for step in range(count):
        ids = torch.randint(0, VOCABULARY, (2, 10))
        yield ids, ids.masked_fill(torch.rand(ids.shape) < step / (count - 1), -100)


def loss_and_gradients(model, ids, labels):
    model.zero_grad()
    output = model(input_ids=ids, labels=labels)
    assert output.logits is None
    output.loss.backward()
    return output.loss.detach(), [parameter.grad for parameter in model.parameters()]


def test_a_generated_forward_is_one_graph_for_all_patterns_of_ignored_tokens(model, monkeypatch):
    traced = []
    save_context = LinearCrossEntropy.save_context

    def counting(ctx, inputs, saved):
        traced.append(type(saved[0]) is not torch.Tensor)
        save_context(ctx, inputs, saved)

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected = [loss_and_gradients(model, *batch) for batch in batches(20)]
    torch.manual_seed(0)
    expected = [loss_and_gradients(model, *batch) for batch in batches(20)]
    monkeypatch.setattr(LinearCrossEntropy, "save_context", staticmethod(counting))
    torch.manual_seed(0)
    for batch, wanted in zip(batches(20), expected, strict=True):
        torch.testing.assert_close(loss_and_gradients(compiled, *batch), wanted, equal_nan=True)
        steps = len(traced)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    assert not counters["recompiles"]
    assert traced
    assert all(traced), "the context was saved outside a trace"
    loss_and_gradients(compiled, *next(batches(2)))
    assert len(traced) == steps <= 3, "more than once for each of the compiler's own tracing passes"


@pytest.mark.slow
def test_inductor(model):
    compiled = torch.compile(model, fullgraph=True)
    for batch in batches(3):
        wanted = loss_and_gradients(model, *batch)
        torch.testing.assert_close(loss_and_gradients(compiled, *batch), wanted, equal_nan=True)


@pytest.mark.parametrize("outputs", [(), ("entropy", "logprob", "logsumexp", "top1", "hits")])
@pytest.mark.parametrize("num_items", [None, 3, torch.tensor(3)])
def test_the_function_alone(outputs, num_items):
    hidden = torch.randn(2, 5, 4, requires_grad=True)
    weight = torch.randn(11, 4, requires_grad=True)
    labels = torch.randint(0, 11, (2, 5))

    def loss(hidden, weight):
        result = linear_cross_entropy(
            hidden, weight, labels, softcap=5.0, scale=weight.sum(), shift=True, num_items=num_items, outputs=outputs
        )
        return result.loss + result.entropy.sum() + result.logprob.sum() if outputs else result

    values = loss(hidden, weight), torch.compile(loss, fullgraph=True, backend="aot_eager")(hidden, weight)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, (hidden, weight)) for value in values))


def test_an_unfused_sequence():
    hidden, weight = torch.randn(5, 4, requires_grad=True), torch.randn(11, 4, requires_grad=True)
    labels = torch.randint(0, 11, (5,))

    def loss(hidden, weight):
        return Sequence((Linear(weight), SoftCap(3.0), CrossEntropy(labels)))(hidden)

    torch.testing.assert_close(
        torch.compile(loss, fullgraph=True, backend="aot_eager")(hidden, weight), loss(hidden, weight)
    )
