"""The registry of backends, and the budget of the `torch` one."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")

from fusegen.kernels import backends, devices, linear_cross_entropy  # noqa: E402
from fusegen.kernels.backends import Backend, backend_for, backend_names, register_backend, use_backend  # noqa: E402
from fusegen.kernels.linear_cross_entropy import chunked  # noqa: E402
from fusegen.kernels.linear_cross_entropy.problem import Need, RowLoss, RowWeights  # noqa: E402
from fusegen.kernels.linear_cross_entropy.selection import Selection  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture
def mine(monkeypatch):
    calls = []

    def fused_rows(*tensors, **options):
        calls.append(options["budget"])
        return chunked.fused_rows(*tensors, **options)

    monkeypatch.setattr(backends, "_backends", backends._backends)
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    register_backend(Backend("mine", fused_rows, lambda device, dtype: dtype == torch.float32))
    return calls


def test_the_cpu_has_the_torch_backend(monkeypatch):
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    assert backend_for(CPU, torch.float32).name == "torch"
    assert backend_names() == ("triton", "torch")


def test_a_backend_of_ones_own_comes_first_where_it_applies(mine):
    hidden, labels = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 1, 2])
    linear_cross_entropy(hidden, torch.randn(5, 4), labels, budget=1000)
    assert mine == [1000]
    assert backend_for(CPU, torch.float64).name == "torch"
    with use_backend("torch"):
        linear_cross_entropy(hidden, torch.randn(5, 4), labels)
    assert len(mine) == 1
    backends.unregister_backend("mine")
    assert backend_names() == ("triton", "torch")


def test_overrides(mine, monkeypatch):
    monkeypatch.setenv(backends.VARIABLE, "torch")
    assert backend_for(CPU, torch.float32).name == "torch"
    with use_backend("mine"):
        assert backend_for(CPU, torch.float32).name == "mine"
        with pytest.raises(ValueError, match=r"mine supports no torch\.float64 on cpu"):
            backend_for(CPU, torch.float64)
    with pytest.raises(ValueError, match="expected one of mine, triton, torch, got 'other'"), use_backend("other"):
        pass


@pytest.mark.parametrize("driven", ["cuda", "xpu"])
def test_a_device_that_triton_drives_has_the_triton_backend(driven, monkeypatch):
    """With a driver of that kind put in force: neither device need be here."""
    triton = pytest.importorskip("triton.backends")
    active = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True))
    monkeypatch.setattr(triton, "backends", {"nvidia" if driven == "cuda" else "intel": active})
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    devices._driven_by_triton.cache_clear()
    try:
        for kind in ("cuda", "xpu"):
            assert backend_for(torch.device(kind), torch.float32).name == ("triton" if kind == driven else "torch")
        assert backend_for(torch.device(driven), torch.float64).name == "torch"
        assert backend_for(CPU, torch.float32).name == "torch"
    finally:
        devices._driven_by_triton.cache_clear()


@pytest.mark.parametrize("budget", [1, 1000, 10**9])
def test_the_budget_bounds_the_chunks_and_changes_nothing_else(budget):
    torch.manual_seed(0)
    hidden, weight = torch.randn(40, 4, dtype=torch.float64), torch.randn(11, 4, dtype=torch.float64)
    sizes = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.dim() == 2 and result.shape[1] == 11:
                sizes.append(result.shape[0])
            return result

    def rows(budget):
        return chunked.fused_rows(
            Selection(hidden, torch.arange(40) % 11, -100, 11),
            weight,
            bias=None,
            row=RowLoss(dtype=torch.float64),
            class_weight=None,
            row_weights=RowWeights(torch.ones(40, dtype=torch.float64)),
            need=Need(hidden=True, weight=True),
            budget=budget,
        )

    with Sizes():
        found = rows(budget)
    assert max(sizes) <= max(4, chunked.chunk_rows(11, torch.float64, budget))
    expected = rows(10**9)
    torch.testing.assert_close((found.loss, found.grad_hidden), (expected.loss, expected.grad_hidden))
    torch.testing.assert_close(found.grad_weight, expected.grad_weight)


@pytest.mark.parametrize(("rows", "budget", "sums"), [(64, 2**18, 2), (12, 2**20, 0)])
def test_the_memory_of_a_16_bit_head(rows, budget, sums):
    """The budget, and with several chunks a sum in float32 as large as two gradients of the head."""
    hidden = torch.randn(rows, 128).bfloat16().requires_grad_()
    weight = torch.randn(4000, 128).bfloat16().requires_grad_()
    labels = torch.randint(0, 4000, (rows,))
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        loss = linear_cross_entropy(hidden, weight, labels, budget=budget)
    events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    held = list(itertools.accumulate(event.nbytes() for event in events if event.name() == "[memory]"))
    assert held[-1] > 2 * weight.numel()
    assert max(held) <= 2 * hidden.numel() + 2 * (1 + sums) * weight.numel() + budget
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy((hidden @ weight.T).float(), labels))
