"""Multi-modal classes get multi-modal batches, and what their checks reach is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusegen.verify.cases import CASES
from fusegen.verify.pool import in_own_processes
from fusegen.verify.reach import outermost
from fusegen.verify.recipes import Recipe
from fusegen.verify.records import VERIFIED, ClassResult, Reach, VerifyReport
from fusegen.verify.rendering import render
from fusegen.verify.tiny_inputs import tiny_batch
from fusegen.verify.tiny_models import tiny_model
from fusegen.verify.worker import Task, verify_class

# A tower with one image a row, patches of all rows in one, audio, two kinds at once, packed along another axis.
CLASSES = [
    pytest.param("LlavaForConditionalGeneration", {"image": 16}, "vision_tower", id="image"),
    pytest.param("Qwen2_5_VLForConditionalGeneration", {"image": 4}, "visual", id="patches"),
    pytest.param("Qwen2AudioForConditionalGeneration", {"audio": 32}, "audio_tower", id="audio"),
    pytest.param("Gemma4ForConditionalGeneration", {"image": 4, "audio": 8}, "vision_tower", id="image and audio"),
    pytest.param("MiniCPMV4_6ForConditionalGeneration", {"image": 1}, "vision_tower", id="packed"),
]


@pytest.mark.parametrize(("name", "placeholders", "tower"), CLASSES)
def test_media_stand_before_the_text_and_train_their_tower(name: str, placeholders, tower: str, target) -> None:
    tiny = tiny_model(target(name))
    assert tiny.batch.kinds == ("text", *placeholders)
    ids, labels, media = tiny.inputs["input_ids"], tiny.inputs["labels"], sum(placeholders.values())
    for kind, number in placeholders.items():
        token = getattr(tiny.model.config, f"{kind}_token_id")
        assert (ids == token).sum(dim=1).tolist() == [number, number]
        assert not (ids[:, media:] == token).any()
    assert bool((labels[:, :media] == -100).all())
    tiny.model(**tiny.inputs).loss.backward()
    gradients = [parameter.grad for path, parameter in tiny.model.named_parameters() if f".{tower}." in path]
    assert gradients
    assert sum(gradient is not None and bool(gradient.any()) for gradient in gradients) >= len(gradients) / 2


@pytest.mark.parametrize(("name", "placeholders", "tower"), CLASSES)
def test_the_first_row_alone_has_its_own_media(name: str, placeholders, tower: str, target) -> None:
    tiny = tiny_model(target(name))
    with torch.no_grad():
        both, first = (tiny.model(**each).logits for each in (tiny.inputs, tiny.batch.first_row))
    torch.testing.assert_close(first, both[:1], rtol=1e-4, atol=1e-4)


def test_a_forward_that_refuses_its_media_is_given_text_and_the_refusal_kept(target) -> None:
    model = tiny_model(target("LlavaForConditionalGeneration")).model
    batch = tiny_batch(model, Recipe(media={"pixel_values": {"normal": [2, 4, 32, 32]}}))
    assert batch.kinds == ("text",)
    assert "4 channels" in str(batch.refusal)
    assert model(**batch.inputs).loss.isfinite()


def test_what_is_not_trained_is_named_by_its_outermost_module() -> None:
    names = ["tower.layer.weight", "tower.layer.bias", "head.scale", "head.weight", "lone"]
    assert outermost(names, ["head.weight"]) == ("tower", "head.scale", "lone")
    assert outermost(names, names) == ()


def test_the_result_says_what_was_reached(target, generated: Path) -> None:
    task = Task(target("LlavaForConditionalGeneration"), generated, CASES[:1])
    (result,) = in_own_processes(verify_class, [task], timeout=120, name=str)
    assert result.outcome == VERIFIED
    assert result.reach.batch == ("text", "image")
    assert result.reach.untrained == ("model.vision_tower.encoder.layers.1", "model.vision_tower.post_layernorm")
    assert 0 < result.reach.parameters - result.reach.trained < 20


def test_what_no_check_trains_is_in_every_format() -> None:
    reach = Reach(("text", "image"), 3, 5, ("model.tower",), "it is frozen")
    refused = replace(reach, batch=("text",), refused="ValueError: no such image")
    classes = (ClassResult("a.A", VERIFIED, reach=reach), ClassResult("b.B", VERIFIED, reach=refused))
    report = VerifyReport("5.23.0", (), classes)
    full, verbose = render(report, "full"), render(report, "full", verbosity=1)
    assert "6 of 10 parameter tensors; -v lists what 2 of 2 classes do not train" in full
    assert "on text alone\n  b.B: ValueError: no such image" in full
    assert "text, image; trained 3 of 5 parameter tensors\n    untrained: model.tower (it is frozen)" in verbose
    assert '"untrained": [\n     "model.tower"' in render(report, "json")
