"""The kernel's function and operators under `torch.compile`; `tests/generated/test_compiled.py` has whole models."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")

from torch._dynamo import compiled_autograd  # noqa: E402

from fusegen.kernels import linear_cross_entropy  # noqa: E402
from fusegen.kernels.ops import CrossEntropy, Linear, Sequence, SoftCap  # noqa: E402


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


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


def test_compiled_autograd():
    hidden, weight = torch.randn(5, 4, requires_grad=True), torch.randn(11, 4, requires_grad=True)
    labels = torch.randint(0, 11, (5,))

    def loss():
        rows = linear_cross_entropy(hidden, weight, labels, reduction="none")
        return 2 * linear_cross_entropy(hidden, weight, labels) + rows.sum() + Linear(weight)(hidden).sum()

    expected = torch.autograd.grad(loss(), (hidden, weight))
    total = loss()
    with compiled_autograd._enable(torch.compile(fullgraph=True, backend="aot_eager")):
        total.backward()
    torch.testing.assert_close((hidden.grad, weight.grad), expected)
