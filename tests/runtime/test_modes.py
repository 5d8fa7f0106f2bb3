"""Modes and trackers of others: what may change a call runs its original statements, what only watches stays fused."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from torch.overrides import BaseTorchFunctionMode, TorchFunctionMode  # noqa: E402
from torch.utils._python_dispatch import BaseTorchDispatchMode, TorchDispatchMode  # noqa: E402
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from torch.utils.module_tracker import ModuleTracker  # noqa: E402

from fusegen.runtime import calls, coverage, install  # noqa: E402

pytestmark = pytest.mark.usefixtures("clean_runtime")


class Doubled(TorchFunctionMode):
    """Twice the cross-entropy of whoever calls it."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        return result * 2 if function is torch.nn.functional.cross_entropy else result


class Tripled(TorchDispatchMode):
    """Three times every negative log-likelihood."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.nll_loss_forward.default:
            return result[0] * 3, result[1]
        return result


class Borrowed(BaseTorchFunctionMode):
    """What a harmless mode becomes in the hands of others."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return super().__torch_function__(function, types, args, kwargs)


def named_like_one_of_torch():
    impostor = type("DeviceContext", (BaseTorchFunctionMode,), {"__module__": "torch.utils._device"})
    return impostor()


def outcomes():
    (counts,) = coverage().values()
    return counts


@pytest.mark.parametrize("mode", [Doubled, Tripled, Borrowed, named_like_one_of_torch], ids=lambda mode: mode.__name__)
def test_a_mode_of_others_sees_the_original_statements(tiny_llama, caplog, mode):
    model, batch = tiny_llama
    with mode():
        right = model(**batch).loss
    install()
    with mode() as active:
        found = model(**batch)
    assert found.logits is not None
    torch.testing.assert_close(found.loss, right)
    assert outcomes() == {"FG526": 1}
    assert f"mode: {type(active).__module__}.{type(active).__qualname__}]" in caplog.text
    model(**batch)
    assert outcomes() == {"FG526": 1, "fused": 1}


def test_a_mode_below_harmless_ones_is_seen(tiny_llama):
    model, batch = tiny_llama
    install()
    with Doubled(), torch.device("cpu"), BaseTorchFunctionMode(), FlopCounterMode(display=False):
        model(**batch)
    assert outcomes() == {"FG526": 1}


def test_a_mode_that_is_entered_between(tiny_llama):
    """By a hook of the base model, say: what is active where the loss is computed counts."""
    model, batch = tiny_llama
    install()
    mode = Doubled()
    model.model.register_forward_hook(lambda *_: mode.__enter__() and None)
    model(**batch)
    mode.__exit__(None, None, None)
    assert outcomes() == {"FG526": 1}


def communication():
    from torch.distributed.tensor.debug import CommDebugMode

    return CommDebugMode()


def memory():
    from torch.distributed._tools.mem_tracker import MemTracker

    return MemTracker()


HARMLESS = {
    "a device": lambda: torch.device("cpu"),
    "another device": lambda: torch.device("meta"),
    "nothing but a function mode": BaseTorchFunctionMode,
    "nothing but a dispatch mode": BaseTorchDispatchMode,
    "flops": lambda: FlopCounterMode(display=False),
    "modules": ModuleTracker,
    "communication": communication,
    "memory": memory,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_watches_is_left_to_watch(tiny_llama, name):
    model, batch = tiny_llama
    right = model(**batch).loss
    install()
    with HARMLESS[name]():
        found = model(**batch)
        found.loss.backward()
    torch.testing.assert_close(found.loss, right)
    assert found.logits is None
    assert outcomes() == {"fused": 1}


def test_a_default_device(tiny_llama):
    model, batch = tiny_llama
    install()
    torch.set_default_device("cpu")
    try:
        model(**batch)
    finally:
        torch.set_default_device(None)
    assert outcomes() == {"fused": 1}


def test_a_compiled_forward_under_modes(tiny_llama):
    model, batch = tiny_llama
    right = model(**batch).loss
    install()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    active = {
        nullcontext(): "fused",
        torch.device("cpu"): "fused",
        BaseTorchFunctionMode(): "fused",
        Doubled(): "FG526",
    }
    for mode, outcome in active.items():
        calls.reset_coverage()
        with mode:
            found = compiled(**batch)
        assert (found.logits is None) == (outcome == "fused")
        # Under a mode of others the graph runs as that of the original does, mode and all.
        torch.testing.assert_close(found.loss if outcome == "fused" else right, right)
        assert set(outcomes()) == {outcome}
    torch._dynamo.reset()


@pytest.mark.parametrize("kept", list(CheckpointPolicy)[:3], ids=lambda policy: policy.name)
def test_selective_checkpoints_stay_fused(tiny_llama, kept):
    model, batch = tiny_llama
    model(**batch).loss.backward()
    right = model.lm_head.weight.grad.clone()
    model.zero_grad()
    install()
    loss = checkpoint(
        lambda: model(**batch).loss,
        use_reentrant=False,
        context_fn=lambda: create_selective_checkpoint_contexts(lambda context, *_, **__: kept),
    )
    loss.backward()
    torch.testing.assert_close(model.lm_head.weight.grad, right)
    assert set(outcomes()) == {"fused"}


def test_a_tensor_that_is_fake(tiny_llama):
    from torch._subclasses.fake_tensor import FakeTensorMode

    model, batch = tiny_llama
    install()
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        loss = model(**{name: fake.from_tensor(values) for name, values in batch.items()}).loss
    assert loss.shape == ()
    assert "fused" not in outcomes() or outcomes() == {"fused": 1}
