"""Patching single models, those of `trust_remote_code` among them, and taking the patches off."""

from __future__ import annotations

import copy
import importlib
import inspect
import io
import json
import logging
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments  # noqa: E402

from fusegen.runtime import InstallError, audit, bodies, coverage, fused, in_memory, install, uninstall  # noqa: E402
from fusegen.runtime.scope import scope  # noqa: E402

pytestmark = pytest.mark.usefixtures("clean_runtime")

LLAMA = "transformers.models.llama.modeling_llama.LlamaForCausalLM"

REMOTE_CODE = dedent(
    """
    import torch
    from torch import nn
    from transformers import LlamaConfig, LlamaModel, PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutputWithPast


    class AcmeConfig(LlamaConfig):
        model_type = "acme"
        cap = 5.0


    class AcmeForCausalLM(PreTrainedModel):
        config_class = AcmeConfig

        def __init__(self, config):
            super().__init__(config)
            self.model = LlamaModel(config)
            self.vocab_size = config.vocab_size
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
            self.post_init()

        def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
            hidden_states = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
            logits = self.lm_head(hidden_states)
            logits = torch.tanh(logits / self.config.cap) * self.config.cap
            loss = None
            if labels is not None:
                loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size, **kwargs)
            return CausalLMOutputWithPast(loss=loss, logits=logits)


    class MaskingForCausalLM(AcmeForCausalLM):
        def forward(self, input_ids=None, labels=None):
            logits = self.lm_head(self.model(input_ids).last_hidden_state)
            logits[..., 7] = float("-inf")
            loss = None
            if labels is not None:
                loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size)
            return CausalLMOutputWithPast(loss=loss, logits=logits)
    """
)

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """A model whose code lies beside its weights, as `from_pretrained(..., trust_remote_code=True)` loads it."""
    folder = tmp_path / "acme_model"
    folder.mkdir()
    (folder / "modeling_acme.py").write_text(REMOTE_CODE)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    config = LlamaConfig(**SIZES).to_dict() | {
        "model_type": "acme",
        "auto_map": {"AutoConfig": "modeling_acme.AcmeConfig", "AutoModelForCausalLM": "modeling_acme.AcmeForCausalLM"},
    }
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    loaded = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    yield AutoModelForCausalLM.from_config(loaded, trust_remote_code=True).train()
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
        del sys.modules[name]


def outcome(model, batch):
    model.zero_grad()
    output = model(**batch)
    output.loss.backward()
    return output.logits, output.loss.detach(), [parameter.grad.clone() for parameter in model.parameters()]


def test_only_this_instance_is_patched(tiny_llama):
    model, batch = tiny_llama
    other = copy.deepcopy(model)
    original = vars(LlamaForCausalLM)["forward"]
    logits, loss, gradients = outcome(model, batch)
    assert install(model).tiers == {f"{LLAMA}.forward": "shipped"}
    fused_logits, fused_loss, fused_gradients = outcome(model, batch)
    assert logits is not None
    assert fused_logits is None
    torch.testing.assert_close((fused_loss, fused_gradients), (loss, gradients))
    assert type(model) is LlamaForCausalLM
    counted = coverage()
    assert outcome(other, batch)[0] is not None
    assert coverage() == counted
    assert inspect.signature(model.forward) == inspect.signature(original.__get__(model))
    uninstall(model)
    assert vars(LlamaForCausalLM)["forward"] is original


def test_uninstall_takes_it_off(tiny_llama):
    model, batch = tiny_llama
    before = dict(vars(model))
    install(model)
    install(model)
    uninstall(model)
    assert vars(model) == before
    assert outcome(model, batch)[0] is not None
    uninstall(model)


def test_a_model_whose_class_is_patched_stays_so_and_says_so(tiny_llama, caplog):
    model, batch = tiny_llama
    install()
    install(model)
    uninstall(model)
    assert outcome(model, batch)[0] is None
    assert "LlamaForCausalLM stays patched for all models: uninstall() without a model takes that off" in caplog.text


def test_a_deep_copy_is_patched_too_and_uninstall_finds_it(tiny_llama):
    model, batch = tiny_llama
    install(model)
    twin = copy.deepcopy(model)
    assert twin.forward.__self__ is twin
    assert outcome(twin, batch)[0] is None
    assert [each["instances"] for each in audit()["patched"]] == [2]
    uninstall()
    assert not scope.holds(model)
    assert not scope.holds(twin)
    assert outcome(twin, batch)[0] is not None


def test_an_inner_module_is_patched_where_the_loss_is_computed(tiny_llama):
    model, batch = tiny_llama

    class Wrapper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, **batch):
            return self.inner(**batch)

    wrapper = Wrapper()
    assert install(wrapper).installed == (f"{LLAMA}.forward",)
    assert outcome(wrapper, batch)[0] is None
    uninstall(wrapper)
    assert outcome(wrapper, batch)[0] is not None


def test_a_block_patches_what_is_not_and_takes_off_only_that(tiny_llama):
    model, batch = tiny_llama
    both = torch.nn.ModuleList([model, copy.deepcopy(model)])
    install(both[0])
    with fused(both):
        assert [each(**batch).logits for each in both] == [None, None]
    assert [scope.holds(each) for each in both] == [True, False]


def test_a_model_of_a_reloaded_module_gets_a_forward_of_its_own_class(tiny_llama):
    model, batch = tiny_llama
    module = sys.modules[LlamaForCausalLM.__module__]
    before = dict(vars(module))
    install(model)
    assert model(**batch).logits is None
    try:
        again = importlib.reload(module).LlamaForCausalLM(model.config).train()
        install(again)
        assert again(**batch).logits is None
        assert [*coverage().values()] == [{"fused": 2}]
        assert outcome(model, batch)[0] is None
    finally:
        vars(module).update(before)


def test_a_subclass_that_inherits_the_forward_is_patched_and_one_that_calls_it_as_well(tiny_llama):
    model, batch = tiny_llama

    class Inherits(LlamaForCausalLM):
        pass

    class Calls(LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    class Overrides(LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            return "theirs"

    for cls in (Inherits, Calls):
        patched, other = cls(model.config).train(), cls(model.config).train()
        assert install(patched).installed == (f"{LLAMA}.forward",)
        assert outcome(patched, batch)[0] is None
        assert outcome(other, batch)[0] is not None
    report = install(Overrides(model.config))
    assert report.installed == ()
    (refused,) = report.refused
    assert (refused.name.rpartition(".<locals>.")[2], refused.code) == ("Overrides.forward", "FG508")
    assert refused.reason.endswith(f"does not call that: {LLAMA}.forward")


def test_with_fused_a_model_is_patched_for_a_block(tiny_llama):
    model, batch = tiny_llama
    with fused(model):
        assert outcome(model, batch)[0] is None
        with fused(model, fuse="never"):
            assert outcome(model, batch)[0] is not None
        assert outcome(model, batch)[0] is None
        model.eval()
        assert model(**batch).logits is not None
    assert not scope.holds(model)
    with fused(model, fuse="always"):
        assert model(**batch).logits is None
    with pytest.raises(KeyError), fused(model):
        raise KeyError
    assert not scope.holds(model)


def test_with_fused_leaves_a_patched_model_patched(tiny_llama):
    model, _ = tiny_llama
    install(model)
    with fused(model):
        pass
    assert scope.holds(model)


def test_a_pickled_model_comes_back_unpatched_and_can_be_patched(tiny_llama):
    model, batch = tiny_llama
    install(model)
    for stored in (pickle.dumps(model), saved(model)):
        back = pickle.loads(stored) if isinstance(stored, bytes) else torch.load(stored, weights_only=False)
        assert outcome(back, batch)[0] is not None
        assert install(back).installed == (f"{LLAMA}.forward",)
        assert outcome(back, batch)[0] is None


def saved(model):
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    return stream


def test_checkpoints_and_state_are_those_of_the_original(tiny_llama, tmp_path):
    model, _ = tiny_llama
    state = list(model.state_dict())
    install(model)
    assert list(model.state_dict()) == state
    model.save_pretrained(tmp_path)
    assert '"LlamaForCausalLM"' in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("whole_process", [True, False])
def test_the_trainer_sees_the_same_model(tiny_llama, tmp_path, whole_process):
    """It looks at the name of the class (for label smoothing), the signature and `accepts_loss_kwargs`."""
    pytest.importorskip("accelerate", reason="transformers.Trainer needs accelerate")
    model, batch = tiny_llama

    def seen():
        arguments = TrainingArguments(str(tmp_path), label_smoothing_factor=0.1, use_cpu=True, report_to="none")
        trainer = Trainer(model=model, args=arguments)
        trainer._set_signature_columns_if_needed()
        loss = trainer.compute_loss(model, dict(batch), num_items_in_batch=torch.tensor(9))
        return loss, (trainer.model_accepts_loss_kwargs, trainer._signature_columns, model._get_name())

    loss, facts = seen()
    install(None if whole_process else model)
    assert model(**batch).logits is None
    fused_loss, fused_facts = seen()
    assert fused_facts == facts
    torch.testing.assert_close(fused_loss, loss, rtol=0, atol=0)


def test_what_another_patcher_owns_is_refused_by_name(tiny_llama, caplog):
    model, batch = tiny_llama
    theirs = {"__name__": "liger_kernel.transformers.model.llama"}
    exec("def lce_forward(self, *args, **kwargs): return 'theirs'", theirs)
    model.forward = theirs["lce_forward"].__get__(model)
    report = install(model)
    assert [refused.code for refused in report.refused] == ["FG502"]
    assert report.refused[0].reason.endswith("liger_kernel.transformers.model.llama.lce_forward (<string>:1)")
    assert "liger_kernel" in caplog.text
    assert model(**batch) == "theirs"


def test_a_patched_class_is_refused_by_name_whatever_the_parameters_are_called(tiny_llama, monkeypatch):
    original = LlamaForCausalLM.forward
    monkeypatch.setattr(LlamaForCausalLM, "forward", lambda self, *args, **kwargs: original(self, *args, **kwargs))
    (refused,) = install(tiny_llama[0]).refused
    assert (refused.name, refused.code) == (f"{LLAMA}.forward", "FG502")


def test_what_wraps_our_forward_keeps_working(tiny_llama):
    hooks = pytest.importorskip("accelerate.hooks", reason="needs accelerate")
    model, batch = tiny_llama
    install(model)
    hooks.add_hook_to_module(model, hooks.ModelHook())
    assert outcome(model, batch)[0] is None
    assert install(model).installed == (f"{LLAMA}.forward",)
    uninstall(model)
    assert outcome(model, batch)[0] is not None
    assert install(model).installed == (f"{LLAMA}.forward",)
    assert outcome(model, batch)[0] is None
    hooks.remove_hook_from_module(model)
    assert outcome(model, batch)[0] is None
    uninstall(model)
    assert outcome(model, batch)[0] is not None


def test_strict_takes_what_is_verified(tiny_llama):
    model, _ = tiny_llama
    install(model, strict=True)
    assert scope.holds(model)


def test_strict_refuses_what_is_verified_for_another_version_and_patches_nothing(tiny_llama, monkeypatch):
    model, _ = tiny_llama
    monkeypatch.setattr(bodies, "installed_version", lambda package: "5.99.0")
    with pytest.raises(InstallError, match="FG505"):
        install(model, strict=True)
    assert not scope.holds(model)


def test_a_model_without_a_language_head_says_so(caplog):
    report = install(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.CrossEntropyLoss(label_smoothing=0.1)))
    assert (report.tiers, report.refused, report.unmatched) == ({}, (), ())
    assert "Sequential runs unfused: no loss over a vocabulary was found in it" in caplog.text
    with pytest.raises(InstallError):
        install(torch.nn.Linear(2, 2), strict=True)


def test_threads_may_patch_and_unpatch_at_the_same_time(tiny_llama):
    model, batch = tiny_llama
    loss = outcome(model, batch)[1]
    models = [copy.deepcopy(model) for _ in range(4)]

    def work(index):
        install(models[index % 4])
        if index % 3 == 0:
            uninstall(models[index % 4])
        with fused(models[index % 4]), torch.no_grad():
            return models[index % 4](**batch).loss

    with ThreadPoolExecutor(8) as pool:
        torch.testing.assert_close(list(pool.map(work, range(24), timeout=60)), [loss] * 24)
    uninstall()
    assert not any(map(scope.holds, models))


def test_remote_code_goes_through_the_pipeline_in_memory(acme):
    input_ids = torch.randint(0, 50, (2, 7))
    batch = {"input_ids": input_ids, "labels": input_ids.masked_fill(torch.rand(2, 7) < 0.3, -100)}
    before = outcome(acme, batch)
    name = f"{type(acme).__module__}.AcmeForCausalLM"
    assert name.startswith("transformers_modules.")
    assert install(acme).tiers == {f"{name}.forward": "in-memory"}
    after = outcome(acme, batch)
    assert before[0] is not None
    assert after[0] is None
    torch.testing.assert_close(after[1:], before[1:])
    assert coverage() == {name: {"fused": 1}}
    source = inspect.getsource(inspect.unwrap(acme.forward.__func__))
    assert "softcap=self.config.cap" in source
    uninstall(acme)
    assert outcome(acme, batch)[0] is not None


def test_a_file_that_was_replaced_after_its_import_is_refused(acme):
    file = Path(sys.modules[type(acme).__module__].__file__)
    file.write_text(file.read_text().replace("self.config.cap", "self.config.other_cap"))
    report = install(acme)
    assert report.installed == ()
    assert [refused.code for refused in report.refused] == ["FG501"]
    assert "changed since it was imported" in report.refused[0].reason
    module = sys.modules[type(acme).__module__]
    module.__loader__.exec_module(module)
    assert install(module.AcmeForCausalLM(acme.config)).installed
    source = inspect.getsource(inspect.unwrap(in_memory.generated(module).bodies[0].function))
    assert "softcap=self.config.other_cap" in source


def test_what_cannot_be_fused_in_remote_code_has_its_reason(acme, caplog):
    module = sys.modules[type(acme).__module__]
    masking = module.MaskingForCausalLM(acme.config)
    caplog.set_level(logging.WARNING, "fusegen")
    report = install(masking)
    assert report.installed == ()
    assert [(each.name.rpartition(".")[0].rpartition(".")[2], each.code) for each in report.unmatched] == [
        ("MaskingForCausalLM", "FG203")
    ]
    assert "MaskingForCausalLM.forward runs unfused: FG203" in caplog.text


def test_a_class_of_the_main_script_is_patched_from_its_file(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        REMOTE_CODE
        + dedent(
            f"""
            import fusegen
            model = AcmeForCausalLM(AcmeConfig(**{SIZES})).train()
            print(fusegen.install(model).tiers)
            batch = torch.arange(8)[None]
            print(model(input_ids=batch, labels=batch).logits)
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["{'__main__.AcmeForCausalLM.forward': 'in-memory'}", "None"]
