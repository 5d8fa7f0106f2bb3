"""Forwards that somebody puts on an instance, before or after: they are named, since nothing of fusegen runs there."""

from __future__ import annotations

import gc
import importlib
import inspect
import logging
import sys
import types
from functools import partial
from textwrap import dedent

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from transformers import LlamaForCausalLM  # noqa: E402

from fusegen.runtime import audit, coverage, install, uninstall  # noqa: E402

pytestmark = pytest.mark.usefixtures("clean_runtime")

LLAMA = "transformers.models.llama.modeling_llama.LlamaForCausalLM"


def theirs(self, input_ids=None, labels=None, **kwargs):
    return "theirs"


def here(function):
    return f"{__name__}.{function.__qualname__} ({__file__}:{inspect.getsourcelines(function)[1]})"


def fuses(model, batch):
    return model(**batch).logits is None


def refusals():
    """Those of the audit that are about something of this file, or of accelerate: other tests leave models behind."""
    ours = (f"{__name__}.", "convert_outputs_to_fp32")
    found = [(each["name"], each["code"], each["reason"]) for each in audit()["refused"]]
    return [each for each in found if any(word in each[2] for word in ours)]


def test_a_forward_that_is_put_on_an_instance_afterwards_is_named(tiny_llama, caplog):
    model, batch = tiny_llama
    install()
    assert refusals() == []
    model.forward = types.MethodType(theirs, model)
    assert model(**batch) == "theirs"
    ((name, code, reason),) = refusals()
    assert (name, code) == (f"{LLAMA}.forward", "FG502")
    assert reason.endswith(f"{here(theirs)}, on 1 instance")
    audit()
    assert caplog.text.count(here(theirs)) == 1
    del model.forward
    assert refusals() == []


@pytest.mark.parametrize("alone", [False, True])
def test_a_model_that_was_wrapped_before_install_is_named_and_counted(tiny_llama, alone, caplog):
    model, batch = tiny_llama
    before = model.forward

    def wrapper(*args, **kwargs):
        return before(*args, **kwargs)

    model.forward = wrapper
    report = install(model) if alone else install()
    (refused,) = [each for each in report.refused if here(wrapper) in each.reason]
    assert (refused.name, refused.code) == (f"{LLAMA}.forward", "FG510")
    assert here(wrapper) in caplog.text
    assert f"{len(report.refused)} refused\n" in str(report)
    assert not fuses(model, batch)


@pytest.mark.parametrize("alone", [False, True])
def test_what_wraps_ours_is_not_named(tiny_llama, alone):
    model, batch = tiny_llama
    install(model if alone else None)
    ours = model.forward
    model.forward = partial(lambda forward, **batch: forward(**batch), ours)
    assert fuses(model, batch)
    install(model if alone else None)
    assert refusals() == []


@pytest.fixture(autouse=True)
def _nobody_else():
    """What the tests before have left behind is no model of this one."""
    gc.collect()


@pytest.mark.parametrize("alone", [False, True])
def test_accelerate_before_and_after(tiny_llama, alone):
    """As `Accelerator(mixed_precision="bf16").prepare(model)` does it."""
    operations = pytest.importorskip("accelerate.utils.operations", reason="needs accelerate")
    model, batch = tiny_llama

    def prepare():
        model.forward = types.MethodType(operations.convert_outputs_to_fp32(model.forward.__func__), model)

    prepare()
    refused = install(model if alone else None).refused
    assert "FG510" in [each.code for each in refused if "accelerate.utils.operations.convert_outputs_to" in each.reason]
    assert not fuses(model, batch)
    del model.forward
    install(model if alone else None)
    prepare()
    assert fuses(model, batch)
    assert refusals() == []


def test_calls_of_a_renamed_class_and_of_a_subclass_count_under_the_name_in_the_audit(tiny_llama):
    """FSDP2 gives a module a class of its own, which is made on the spot."""
    model, batch = tiny_llama
    install()
    model.__class__ = type("FSDPLlamaForCausalLM", (LlamaForCausalLM,), {"__module__": "torch.distributed.fsdp"})
    assert fuses(model, batch)
    assert coverage() == {LLAMA: {"fused": 1}}
    record = audit()
    assert {f"{name}.forward" for name in record["calls"]} <= {each["name"] for each in record["patched"]}


TARGETS = """
import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = dict(vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=1)
        config = LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2)
        self.body = LlamaModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, idx, targets=None):
        logits = self.lm_head(self.body(idx)[0])
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)
        return logits, loss
"""


def test_labels_may_have_any_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "small_model.py").write_text(dedent(TARGETS))
    small = importlib.import_module("small_model")
    try:
        model, ids = small.Small().train(), torch.arange(8)[None]
        before = model(ids, ids)[1]
        report = install(model)
        assert report.installed == ("small_model.Small.forward",)
        torch.testing.assert_close(model(ids, ids)[1], before)
    finally:
        del sys.modules["small_model"]


def test_the_report_counts_what_it_lists(tmp_path, monkeypatch, caplog):
    monkeypatch.syspath_prepend(tmp_path)
    text = dedent(TARGETS).replace("F.cross_entropy(", "2 * F.nll_loss(").replace("Small", "Other")
    (tmp_path / "other_model.py").write_text(text.replace("logits = self.lm_head(x)", "logits = self.lm_head(x) ** 2"))
    caplog.set_level(logging.WARNING, "fusegen")
    report = install(importlib.import_module("other_model").Other())
    first, *others = str(report).splitlines()
    numbers = [int(each.split()[0]) for each in first.replace("(", ",").split(", ") if each[0].isdigit()]
    assert sum(numbers) == len(others) == len(report.unmatched) + len(report.refused)
    uninstall()
    del sys.modules["other_model"]
