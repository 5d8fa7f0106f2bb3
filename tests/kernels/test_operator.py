"""The protocol: what a class may define, what its registration gives, and that a compiler sees pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")

from torch import Tensor  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402

from fusegen.kernels import linear_cross_entropy, ops  # noqa: E402
from fusegen.kernels.linear_cross_entropy import operators, rescale  # noqa: E402
from fusegen.kernels.operator import Operator  # noqa: E402


def forward_compute(x: Tensor) -> tuple[tuple[Tensor], tuple[()]]:
    return (x * 3,), ()


def save_context(ctx, inputs, saved):
    pass


def forward(ctx, x):
    return x * 3


def backward(ctx, gradient):
    return (gradient * 3,)


BOTH = {"forward_compute": forward_compute, "save_context": save_context}


def define(**methods):
    return type("Triple", (Operator,), {k: staticmethod(v) for k, v in methods.items()}, name="test_triple")


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({}, "Triple: `forward_compute` is missing"),
        ({"forward_compute": forward_compute, "backward": backward}, "Triple: `save_context` is missing"),
        ({"save_context": save_context, "backward": backward}, "Triple: `forward_compute` is missing"),
        (BOTH, "Triple: `backward` is missing"),
        ({"forward": forward}, "Triple: `backward` is missing"),
        ({"forward": forward, "backward": backward} | BOTH, "Triple: `forward` and `forward_compute` are both"),
        (
            {"forward": forward, "save_context": save_context, "backward": backward},
            "Triple: `forward` and `save_context` are both",
        ),
    ],
)
def test_half_a_form_or_both_is_an_error_at_the_definition(methods, message):
    with pytest.raises(TypeError, match=message):
        define(**methods)


@pytest.mark.parametrize("methods", [BOTH, {"forward": forward}])
def test_both_forms_compute_the_same(methods):
    triple = define(**methods, backward=backward)
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert triple.is_legacy == ("forward" in methods)
    torch.testing.assert_close(triple.apply(x), x * 3)
    assert torch.autograd.gradcheck(triple.apply, (x,))
    assert torch.autograd.gradcheck(triple.apply_eagerly, (x,))


def test_the_legacy_form_breaks_a_compiled_graph():
    triple = define(forward=forward, backward=backward)
    x = torch.randn(4, requires_grad=True)
    torch._dynamo.reset()
    assert torch._dynamo.explain(lambda x: triple.apply(x + 1) * 2)(x).graph_break_count == 1
    torch.testing.assert_close(torch.compile(lambda x: triple.apply(x + 1) * 2, backend="aot_eager")(x), (x + 1) * 6)


def test_a_sequence_with_a_legacy_operator_runs_as_a_whole_through_the_legacy_path(monkeypatch):
    @dataclass(frozen=True, eq=False)
    class Legacy(Operator, name="test_legacy"):
        @staticmethod
        def forward(ctx, logits):
            return logits * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 2

    def refuse(*inputs):
        raise AssertionError("went through the dispatcher")

    weight, hidden = torch.randn(5, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    labels = torch.tensor([0, 4, -100])
    monkeypatch.setattr(ops.Linear, "_registered", refuse)
    monkeypatch.setattr(ops.CrossEntropy, "_registered", refuse)
    loss = ops.Sequence((ops.Linear(weight), Legacy(), ops.CrossEntropy(labels)))(hidden)
    expected = torch.nn.functional.cross_entropy(hidden @ weight.T * 2, labels)
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(each, (hidden, weight)) for each in (loss, expected)]
    torch.testing.assert_close(*gradients)


def leaf(*shape):
    return torch.randn(shape, requires_grad=True)


LABELS = torch.tensor([1, 2, -100, 4, 0, 3])
OPTIONS = (-100, 1.0, 2.0, 9, 0.1, 0.01)
NEED = [True] * 4
SAMPLES = {
    "linear": lambda: (leaf(2, 3, 4), leaf(11, 4), leaf(11)),
    "bias": lambda: (leaf(6, 11), leaf(1, 11)),
    "scale": lambda: (leaf(6, 11), leaf(1), None, 1.0, 2.0),
    "soft_cap": lambda: (leaf(6, 11), 3.0),
    "cast": lambda: (leaf(6, 11), torch.float64),
    "vocab_slice": lambda: (leaf(6, 11), 9),
    "cross_entropy": lambda: (leaf(6, 11), LABELS, torch.rand(11), -100, 0.1, "mean"),
    "linear_cross_entropy": lambda: (
        *(leaf(6, 4), leaf(11, 4), LABELS, leaf(11), leaf(), torch.rand(11), torch.rand(6), torch.tensor(3.0)),
        *(*OPTIONS, True, None, False, torch.float32, NEED, [True, True]),
    ),
    "token_cross_entropy": lambda: (
        *(leaf(6, 4), leaf(11, 4), LABELS, leaf(11), leaf(), None),
        *(*OPTIONS, None, False, torch.float32, [True, True]),
    ),
    "token_cross_entropy_backward": lambda: (
        *(torch.randn(6), None, torch.randn(6), torch.randn(6, 4), torch.randn(11, 4), LABELS, torch.randn(11)),
        *(torch.tensor(1.5), None, *OPTIONS, None, False, torch.float32, NEED),
    ),
    "token_cross_entropy_jvp": lambda: (
        *(torch.randn(6, 4), None, torch.randn(11), torch.tensor(0.5), torch.randn(6, 4), torch.randn(11, 4), LABELS),
        *(torch.randn(11), torch.tensor(1.5), None, *OPTIONS, None, False, torch.float32),
    ),
    "multiply_unless_one_": lambda: (torch.randn(6, 4), torch.tensor(2.0)),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_opcheck(name):
    torch.manual_seed(0)
    outcome = torch.library.opcheck(getattr(torch.ops.fusegen, name).default, SAMPLES[name]())
    assert set(outcome.values()) == {"SUCCESS"}


def test_every_registered_operator_is_checked():
    basic = {getattr(ops, each).name for each in ops.__all__ if each != "Sequence"}
    fused = {operators.LinearCrossEntropy.name, operators.TokenCrossEntropy.name, "token_cross_entropy_backward"}
    assert set(SAMPLES) == basic | fused | {"token_cross_entropy_jvp", "multiply_unless_one_"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_multiply_unless_one(dtype, factor):
    gradient = torch.randn(5, 3).to(dtype)
    expected = (gradient.float() * factor).to(dtype)
    rescale.multiply_unless_one_(gradient, torch.tensor(factor))
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0)


def test_autocast_rules():
    hidden, weight = leaf(3, 4), leaf(5, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = ops.Linear(weight)(hidden)
        loss = ops.CrossEntropy(torch.tensor([0, 1, 2]))(logits)
    assert (logits.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
    assert torch.autograd.grad(loss, weight)[0].dtype == torch.float32


WAYS = {
    "sum": lambda hidden, weight: linear_cross_entropy(hidden, weight, LABELS),
    "rows": lambda hidden, weight: linear_cross_entropy(hidden, weight, LABELS, reduction="none").sum(),
    "unfused": lambda hidden, weight: ops.Sequence((ops.Linear(weight), ops.CrossEntropy(LABELS)))(hidden),
    "eagerly": lambda hidden, weight: ops.Linear.apply_eagerly(hidden, weight, None).sum(),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_second_derivative_is_an_error(way):
    hidden, weight, loss = leaf(6, 4), leaf(11, 4), WAYS[way]
    (first,) = torch.autograd.grad(loss(hidden, weight), hidden, create_graph=True)
    torch.testing.assert_close(first.detach(), torch.autograd.grad(loss(hidden, weight), hidden)[0])
    with pytest.raises(NotImplementedError, match="no second derivative is defined; compute this loss unfused"):
        (loss(hidden, weight) + first.square().sum()).backward()
    with pytest.raises(NotImplementedError, match="no second derivative"):
        torch.autograd.functional.hessian(lambda each: loss(each, weight.detach()), hidden.detach())


@pytest.mark.parametrize("way", ["sum", "rows", "unfused"])
def test_forward_mode_is_an_error(way):
    hidden, weight = torch.randn(6, 4), torch.randn(11, 4)
    with forward_ad.dual_level():
        assert WAYS[way](hidden, weight).isfinite()
        with pytest.raises(NotImplementedError, match="forward"):
            WAYS[way](forward_ad.make_dual(hidden, torch.ones_like(hidden)), weight)
    with pytest.raises(NotImplementedError, match="forward"):
        torch.func.jvp(lambda each: WAYS[way](each, weight), (hidden,), (torch.ones_like(hidden),))
