"""The fused operators on a CUDA device with the Triton backend, against the definition on the same device."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")

from fusegen.kernels import linear_cross_entropy, linear_cross_entropy_reference  # noqa: E402
from fusegen.kernels.backends import backend_for  # noqa: E402
from fusegen.kernels.linear_cross_entropy import rescale  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

ROWS, HIDDEN, VOCABULARY = 300, 64, 1000
OPTIONS = {
    "plain": dict,
    "none": lambda: {"reduction": "none"},
    "number of items": lambda: {"num_items": torch.tensor(7)},
    "outputs": lambda: {"outputs": ("entropy", "logprob")},
    "outputs without gradient": lambda: {"outputs": ("logsumexp", "top1", "hits")},
    "class weight": lambda: {"class_weight": torch.rand(VOCABULARY, device="cuda")},
    "exact": lambda: {"exact": True},
}


def parameter(*shape, dtype=torch.float32):
    return torch.randn(shape, device="cuda", dtype=dtype).requires_grad_()


def test_the_backend_is_triton():
    assert backend_for(torch.device("cuda"), torch.float32).name == "triton"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.bfloat16, 3e-2), (torch.float16, 3e-2)])
@pytest.mark.parametrize("option", OPTIONS)
def test_against_the_definition(option, dtype, tolerance):
    torch.manual_seed(0)
    hidden, weight = parameter(ROWS, HIDDEN, dtype=dtype), parameter(VOCABULARY, HIDDEN, dtype=dtype)
    bias, scale = parameter(VOCABULARY, dtype=dtype), torch.tensor(0.3, device="cuda", requires_grad=True)
    labels = torch.randint(0, 990, (ROWS,), device="cuda")
    labels[::3] = -100
    options = {"bias": bias, "scale": scale, "softcap": 9.0, "valid_vocab": 995, "label_smoothing": 0.1, "z_loss": 0.01}
    options |= OPTIONS[option]()
    definition = {name: value for name, value in options.items() if name != "exact"}
    if isinstance(options.get("num_items"), torch.Tensor):
        definition["num_items"] = 7
    found = []
    for function, keywords in ((linear_cross_entropy, options), (linear_cross_entropy_reference, definition)):
        result = function(hidden, weight, labels, **keywords)
        parts = [result] if isinstance(result, torch.Tensor) else [t for t in result if t is not None]
        total = sum(part.sum() for part in parts if part.requires_grad)
        found.append((total.detach(), *torch.autograd.grad(3 * total, (hidden, weight, bias, scale))))
    for ours, expected in zip(*found, strict=True):
        assert (ours.float() - expected.float()).norm() <= tolerance * expected.float().norm()


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_multiply_unless_one(factor):
    gradient = torch.randn(5000, 77, device="cuda").bfloat16()
    expected = (gradient.float() * factor).bfloat16()
    rescale.multiply_unless_one_(gradient, torch.tensor(factor, device="cuda"))
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiled(reduction):
    hidden, weight = parameter(64, HIDDEN), parameter(VOCABULARY, HIDDEN)
    labels = torch.randint(0, VOCABULARY, (64,), device="cuda")

    def loss(hidden, weight):
        return linear_cross_entropy(hidden, weight, labels, reduction=reduction).sum()

    value, expected = torch.compile(loss, fullgraph=True)(hidden, weight), loss(hidden, weight)
    torch.testing.assert_close(value, expected)
    gradients = [torch.autograd.grad(each, (hidden, weight)) for each in (value, expected)]
    torch.testing.assert_close(*gradients)


def test_a_step_needs_the_gradients_and_the_budget():
    """Neither gradient is held twice (512 MB here, against a budget of 128 MB)."""
    rows, hidden_size, vocabulary = 4096, 2048, 128000
    hidden = torch.randn(rows, hidden_size, device="cuda", dtype=torch.bfloat16).requires_grad_()
    weight = torch.randn(vocabulary, hidden_size, device="cuda", dtype=torch.bfloat16).requires_grad_()
    labels = torch.randint(0, vocabulary, (rows,), device="cuda")
    for _ in range(2):
        hidden.grad = weight.grad = None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        linear_cross_entropy(hidden, weight, labels, budget=2**27).backward()
    gradients = 2 * (hidden.numel() + weight.numel())
    assert torch.cuda.max_memory_allocated() - before - gradients <= 1.1 * 2**27
