"""When `fusible` says no: everything that would make the fused path differ from the original statements."""

from __future__ import annotations

import copy
import logging

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from torch import nn  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402
from torch.nn.modules.module import register_module_forward_hook  # noqa: E402
from torch.nn.utils import parametrizations, prune  # noqa: E402
from transformers import (  # noqa: E402
    BartConfig,
    BartForConditionalGeneration,
    DistilBertConfig,
    DistilBertForMaskedLM,
)
from transformers.loss import loss_utils  # noqa: E402

from fusegen.runtime import coverage, fused, fusible, guards, install  # noqa: E402

pytestmark = pytest.mark.usefixtures("clean_runtime")

LLAMA = "transformers.models.llama.modeling_llama.LlamaForCausalLM"


class LowRankLinear(nn.Linear):
    """What an adapter library puts in the place of a head."""


def ask(model, **kwargs):
    return fusible(model, model.lm_head, torch.zeros(1, dtype=torch.int64), **{"loss": "ForCausalLMLoss"} | kwargs)


def low_rank(model):
    model.lm_head.__class__ = LowRankLinear


def forward_hook(model):
    model.lm_head.register_forward_hook(lambda *_: None)


def forward_pre_hook(model):
    model.lm_head.register_forward_pre_hook(lambda *_: None)


def backward_hook(model):
    model.lm_head.register_full_backward_hook(lambda *_: None)


def backward_pre_hook(model):
    model.lm_head.register_full_backward_pre_hook(lambda *_: None)


def replaced_forward(model):
    model.lm_head.forward = lambda hidden: nn.Linear.forward(model.lm_head, hidden)


def pruned(model):
    prune.l1_unstructured(model.lm_head, "weight", amount=0.5)


def parametrised(model):
    parametrizations.weight_norm(model.lm_head)


def sequential(model):
    model.lm_head = nn.Sequential(model.lm_head)


def on_meta(model):
    model.lm_head.to("meta")


def flattened_shard(model):
    model.lm_head.weight = nn.Parameter(torch.empty(0))


def tensor_subclass(model):
    class Quantised(torch.Tensor):
        pass

    model.lm_head.weight = nn.Parameter(torch.Tensor._make_subclass(Quantised, model.lm_head.weight.data))


def quantised_in_place(model):
    model.lm_head = torch.ao.quantization.quantize_dynamic(nn.Sequential(model.lm_head), {nn.Linear})[0]


def dispatched(model):
    hooks = pytest.importorskip("accelerate.hooks", reason="needs accelerate")
    hooks.add_hook_to_module(model.lm_head, hooks.AlignDevicesHook(execution_device="cpu"))


def own_loss(model):
    model.loss_function = lambda **kwargs: torch.zeros(())


def wrong_stock_loss(model):
    model.loss_function = loss_utils.ForMaskedLMLoss


REFUSALS = {
    low_rank: "FG512",
    sequential: "FG512",
    parametrised: "FG512",
    quantised_in_place: "FG512",
    forward_hook: "FG513",
    forward_pre_hook: "FG513",
    backward_hook: "FG513",
    backward_pre_hook: "FG513",
    replaced_forward: "FG513",
    dispatched: "FG513",
    pruned: "FG513",
    on_meta: "FG514",
    flattened_shard: "FG514",
    tensor_subclass: "FG514",
    own_loss: "FG515",
    wrong_stock_loss: "FG515",
}


def test_a_plain_model_in_training_is_fused(tiny_llama):
    model, _ = tiny_llama
    assert ask(model) is True
    assert ask(model, loss=None) is True


@pytest.mark.parametrize("change", REFUSALS, ids=lambda change: change.__name__)
def test_refusals(tiny_llama, change):
    model, _ = tiny_llama
    change(model)
    assert ask(model) is False
    assert coverage() == {LLAMA: {REFUSALS[change]: 1}}


def test_a_sharded_head(tiny_llama, mesh):
    from torch.distributed.tensor import Shard, distribute_tensor

    model, _ = tiny_llama
    model.lm_head.weight = nn.Parameter(distribute_tensor(model.lm_head.weight.data, mesh, [Shard(0)]))
    assert not ask(model)
    assert coverage() == {LLAMA: {"FG514": 1}}


def test_fully_sharded(tiny_llama, mesh, fused_llama):
    """A root that gathers its parameters gives its forward a plain head; a head with a group of its own does not."""
    from torch.distributed.fsdp import fully_shard

    model, batch = tiny_llama
    twin = copy.deepcopy(model)
    expected = model(**batch).loss
    expected.backward()
    install(fused_llama)
    for sharded, own in ((copy.deepcopy(twin), False), (twin, True)):
        if own:
            fully_shard(sharded.lm_head, mesh=mesh)
        output = fully_shard(sharded, mesh=mesh)(**batch)
        output.loss.backward()
        assert (output.logits is None) == (not own)
        torch.testing.assert_close(output.loss, expected)
        torch.testing.assert_close(sharded.lm_head.weight.grad.full_tensor(), model.lm_head.weight.grad)
    assert sorted(outcome for counts in coverage().values() for outcome in counts) == ["FG512", "fused"]


def test_a_device_without_a_backend(tiny_llama, monkeypatch):
    model, _ = tiny_llama
    monkeypatch.setattr(guards, "_DEVICES", ("cuda",))
    assert not ask(model)
    assert coverage() == {LLAMA: {"FG517": 1}}


def test_transforms_of_functions(tiny_llama):
    model, _ = tiny_llama
    answers = []

    def asked(number):
        answers.append(ask(model))
        return number * 2

    torch.func.grad(asked)(torch.ones(()))
    torch.func.vmap(asked)(torch.ones(3))
    with forward_ad.dual_level():
        asked(torch.ones(()))
    asked(torch.ones(()))
    assert answers == [False, False, False, True]
    assert coverage() == {LLAMA: {"FG518": 3}}


def test_without_labels_nothing_is_asked(tiny_llama):
    model, _ = tiny_llama
    forward_hook(model)
    assert fusible(model.eval(), model.lm_head, None) is False
    assert coverage() == {}


@pytest.mark.parametrize("owner", [nn.Linear, nn.functional], ids=["method", "function"])
def test_a_linear_that_was_replaced_for_all(tiny_llama, monkeypatch, owner):
    model, batch = tiny_llama
    install()
    name = "forward" if owner is nn.Linear else "linear"
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: 0 * original(*args, **kwargs))
    assert (model(**batch).logits == 0).all()
    assert coverage() == {LLAMA: {"FG513": 1}}


def test_a_removed_hook_no_longer_counts(tiny_llama):
    model, _ = tiny_llama
    handle = model.lm_head.register_forward_hook(lambda *_: None)
    assert not ask(model)
    handle.remove()
    assert ask(model)


def test_hooks_on_all_modules(tiny_llama):
    model, _ = tiny_llama
    handle = register_module_forward_hook(lambda *_: None)
    try:
        assert not ask(model)
    finally:
        handle.remove()
    assert ask(model)


def test_an_override_of_the_loss_on_the_class_wins(tiny_llama):
    model, _ = tiny_llama

    class Mine(type(model)):
        loss_function = staticmethod(lambda *args, **kwargs: torch.zeros(()))

    model.__class__ = Mine
    assert not ask(model)
    assert ask(model, loss=None)


def test_a_stock_loss_that_was_patched_is_not_stock(tiny_llama, monkeypatch):
    model, _ = tiny_llama
    monkeypatch.setattr(loss_utils, "fixed_cross_entropy", lambda *args, **kwargs: torch.zeros(()))
    assert not ask(model)


def replaced_function(monkeypatch):
    original = nn.functional.cross_entropy
    monkeypatch.setattr(nn.functional, "cross_entropy", lambda *args, **kwargs: 42 + 0 * original(*args, **kwargs))


def replaced_method(monkeypatch):
    original = nn.CrossEntropyLoss.forward
    monkeypatch.setattr(nn.CrossEntropyLoss, "forward", lambda *args: 42 + 0 * original(*args))


def replaced_class(monkeypatch):
    class FocalLoss(nn.CrossEntropyLoss):
        def forward(self, logits, labels):
            return 42 + 0 * super().forward(logits, labels)

    monkeypatch.setattr("transformers.models.bart.modeling_bart.CrossEntropyLoss", FocalLoss)


@pytest.mark.parametrize("replace", [replaced_function, replaced_method, replaced_class])
def test_a_cross_entropy_that_was_replaced_is_not_bypassed(monkeypatch, replace):
    sizes = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "encoder_layers": 1, "decoder_layers": 1}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    model = BartForConditionalGeneration(BartConfig(vocab_size=50, max_position_embeddings=20, **sizes, **heads))
    ids = torch.arange(3, 10)[None]
    replace(monkeypatch)
    install()
    assert model.train()(input_ids=ids, labels=ids).loss == 42
    monkeypatch.undo()
    assert model(input_ids=ids, labels=ids).logits is None
    assert list(coverage().values()) == [{"FG522": 1, "fused": 1}]


@pytest.mark.parametrize(
    "settings", [{"label_smoothing": 0.5}, {"ignore_index": 5}, {"weight": torch.arange(50.0)}, {"reduction": "sum"}]
)
def test_a_kept_criterion_with_other_settings_is_not_bypassed(settings):
    sizes = {"dim": 16, "hidden_dim": 16, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 20}
    model = DistilBertForMaskedLM(DistilBertConfig(vocab_size=50, dropout=0.0, attention_dropout=0.0, **sizes)).train()
    ids = torch.arange(3, 10)[None]
    install()
    assert model(input_ids=ids, labels=ids).logits is None
    model.mlm_loss_fct = nn.CrossEntropyLoss(**settings)
    output = model(input_ids=ids, labels=ids)
    torch.testing.assert_close(output.loss, model.mlm_loss_fct(output.logits.view(-1, 50), ids.view(-1)))
    assert list(coverage().values()) == [{"fused": 1, "FG519": 1}]


def test_policy(tiny_llama):
    model, _ = tiny_llama
    model.eval()
    assert not ask(model)
    with fused():
        assert ask(model)
    model.train()
    with fused(fuse="never"):
        assert not ask(model)
    assert coverage() == {LLAMA: {"FG511": 2}}


def test_a_reason_is_logged_once_for_a_class_and_finding(tiny_llama, caplog):
    model, _ = tiny_llama
    forward_hook(model)
    with caplog.at_level(logging.INFO, logger="fusegen"):
        for _ in range(3):
            ask(model)
        model.eval()
        for _ in range(3):
            ask(model)
        with fused(fuse="never"):
            for _ in range(3):
                ask(model)
    assert [(r.levelname, r.getMessage()[:37]) for r in caplog.records] == [
        ("WARNING", "LlamaForCausalLM runs unfused: FG513 "),
        ("WARNING", "LlamaForCausalLM runs unfused: FG511 "),
        ("INFO", "LlamaForCausalLM runs unfused: FG511 "),
    ]
    assert coverage() == {LLAMA: {"FG513": 3, "FG511": 6}}
