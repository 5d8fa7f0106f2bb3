"""The record of what fusegen does in a process."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
transformers = pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from transformers import ChameleonForConditionalGeneration, LlamaForCausalLM  # noqa: E402

from fusegen.runtime import audit, install  # noqa: E402

pytestmark = pytest.mark.usefixtures("clean_runtime")

LLAMA = "transformers.models.llama.modeling_llama.LlamaForCausalLM"
CHAMELEON = f"{ChameleonForConditionalGeneration.__module__}.ChameleonForConditionalGeneration"


def test_nothing_is_installed():
    record = audit()
    assert record["schema_version"] == 1
    assert record["tree"] is None
    assert record["patched"] == record["pending"] == record["refused"] == record["failed"] == []
    assert record["calls"] == {}


def test_what_runs_and_what_does_not(tiny_llama):
    model, batch = tiny_llama
    install()
    model(**batch)
    model.lm_head.register_forward_hook(lambda *arguments: None)
    model(**batch)
    model(**batch)
    record = json.loads(json.dumps(audit()))
    patched = {each["name"]: each for each in record["patched"]}
    assert patched[f"{LLAMA}.forward"] == {
        "name": f"{LLAMA}.forward",
        "tier": "shipped",
        "verified": True,
        "instances": None,
    }
    assert record["tree"]["current"] == record["tree"]["methods"] == len(record["patched"]) + len(record["pending"])
    assert record["tree"]["installed"] == transformers.__version__
    assert record["backend"]["name"] in ("torch", "triton")
    calls = record["calls"][LLAMA]
    assert calls["fused"] == 1
    assert [(each["code"], each["count"]) for each in calls["unfused"]] == [("FG513", 2)]
    assert calls["unfused"][0]["reason"].startswith("calling the head would run hooks")


def test_a_loss_that_is_not_fused_has_the_code_of_the_scan():
    install()
    unmatched = {each["name"]: each["code"] for each in audit()["unmatched"]}
    assert unmatched[f"{CHAMELEON}.forward"] == "FG203"


def test_what_another_patcher_owns_is_named(monkeypatch):
    theirs = {"__name__": "cut_cross_entropy.transformers.llama"}
    exec("def cce_forward(self): return None", theirs)
    monkeypatch.setattr(LlamaForCausalLM, "forward", theirs["cce_forward"])
    install()
    refused = {each["name"]: each for each in audit()["refused"]}
    assert refused[f"{LLAMA}.forward"]["code"] == "FG502"
    assert "cut_cross_entropy.transformers.llama.cce_forward" in refused[f"{LLAMA}.forward"]["reason"]


def test_what_is_patched_over_ours_is_named_as_well(monkeypatch):
    monkeypatch.setattr(LlamaForCausalLM, "forward", LlamaForCausalLM.forward)
    install()
    LlamaForCausalLM.forward = theirs = lambda self: None
    record = audit()
    assert f"{LLAMA}.forward" not in {each["name"] for each in record["patched"]}
    assert [each["code"] for each in record["refused"]] == ["FG502"]
    assert __name__ in record["refused"][0]["reason"]
    assert vars(LlamaForCausalLM)["forward"] is theirs
