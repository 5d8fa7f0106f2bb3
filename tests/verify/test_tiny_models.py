"""Tiny models: small, the same at each call, with logits that are spread and knobs that are far from neutral."""

from __future__ import annotations

from operator import attrgetter

import pytest
import torch

from fusegen.verify.tiny_models import LOGIT_SPREAD, tiny_model

FAMILIES = [
    pytest.param("LlamaForCausalLM", id="text"),
    pytest.param("LlavaForConditionalGeneration", id="vision-language"),
    pytest.param("WhisperForConditionalGeneration", id="speech"),
    pytest.param("T5ForConditionalGeneration", id="encoder-decoder"),
    pytest.param("MixtralForCausalLM", id="mixture of experts"),
    pytest.param("MambaForCausalLM", id="state-space"),
    pytest.param("JambaForCausalLM", id="hybrid"),
]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tiny_model_of_each_family_trains(name: str, target) -> None:
    tiny = tiny_model(target(name))
    loss = tiny.model(**tiny.inputs).loss
    loss.backward()
    assert loss.isfinite()
    assert sum(parameter.numel() for parameter in tiny.model.parameters()) < 500_000
    head = tiny.model.get_output_embeddings()
    assert head.weight.grad.norm() > 0


def test_two_models_of_a_class_are_the_same(target) -> None:
    one, other = (tiny_model(target("LlamaForCausalLM")) for _ in range(2))
    torch.testing.assert_close(one.model.state_dict(), other.model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(one.inputs, other.inputs, rtol=0, atol=0)


def test_logits_are_spread(target) -> None:
    tiny = tiny_model(target("LlamaForCausalLM"))
    logits = tiny.model(**tiny.inputs).logits.detach()
    assert float(logits.std()) == pytest.approx(LOGIT_SPREAD, rel=0.01)


@pytest.mark.parametrize(
    ("name", "place", "value", "neutral"),
    [
        ("Gemma2ForCausalLM", "config.final_logit_softcapping", 2.5, None),
        ("PaliGemmaForConditionalGeneration", "config.text_config.final_logit_softcapping", 2.5, None),
        ("CohereForCausalLM", "logit_scale", 1.7, 1.0),
        ("GraniteForCausalLM", "config.logits_scaling", 0.6, 1.0),
    ],
)
def test_a_knob_of_the_chain_is_far_from_neutral(name: str, place: str, value: float, neutral: float, target) -> None:
    tiny = tiny_model(target(name))
    assert attrgetter(place)(tiny.model) == value
    with torch.no_grad():
        turned = tiny.model(**tiny.inputs).loss
        owner, _, attribute = place.rpartition(".")
        setattr(attrgetter(owner)(tiny.model) if owner else tiny.model, attribute, neutral)
        assert abs(turned - tiny.model(**tiny.inputs).loss) > 0.1


def test_a_knob_that_may_be_off_can_be_turned_off(target) -> None:
    assert tiny_model(target("Gemma2ForCausalLM"), knobs=False).model.config.final_logit_softcapping is None


def test_tying_can_be_flipped(target) -> None:
    def tied(model) -> bool:
        return model.get_output_embeddings().weight is model.get_input_embeddings().weight

    for name in ("LlamaForCausalLM", "Gemma2ForCausalLM"):
        assert tied(tiny_model(target(name)).model) != tied(tiny_model(target(name), flip_tying=True).model)
