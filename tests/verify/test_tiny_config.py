"""Tiny configs, also of config classes as older releases have them: their own code makes the sub-configs."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, ClassVar

from fusegen.verify.recipes import Recipe, recipe
from fusegen.verify.tiny_config import FIRST_SPECIAL_ID, configs_within, tiny_config


class Patches:
    model_type = "patches"

    def __init__(self, patch_size: int = 14, hidden_size: int = 768, model_type: str = model_type) -> None:
        self.patch_size = patch_size
        self.hidden_size = hidden_size


class Tower:
    model_type = "tower"
    sub_configs: ClassVar = {"patches": Patches}

    def __init__(
        self,
        patches: dict[str, Any] | None = None,
        hidden_size: int = 1024,
        num_hidden_layers: int = 24,
        image_token_id: int = 32000,
        model_type: str = model_type,
    ) -> None:
        self.patches = Patches(**(patches or {}))
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.image_token_id = image_token_id


class Older:
    """What 4.x did: `sub_configs` names classes, and defaults of them stand in no table but in `__init__`."""

    model_type = "older"
    sub_configs: ClassVar = {"vision_config": Tower, "audio_config": Tower}

    def __init__(
        self,
        vision_config: Any = None,
        audio_config: Any = None,
        hidden_size: int = 4096,
        vocab_size: int = 32000,
        image_token_id: int = 31999,
    ) -> None:
        from transformers import CONFIG_MAPPING

        given = vision_config or {}
        part = CONFIG_MAPPING[given["model_type"]] if given.get("model_type", "tower") != "tower" else Tower
        self.vision_config = part(**given)
        self.audio_config = Tower(**audio_config) if audio_config else None
        self.hidden_size = hidden_size
        self.vocab_size = vocab_size
        self.image_token_id = image_token_id


def test_a_config_that_makes_its_parts_itself_is_tiny_at_every_depth() -> None:
    config = tiny_config(Older, Recipe())
    assert (config.hidden_size, config.vocab_size) == (32, 96)
    assert (config.vision_config.hidden_size, config.vision_config.num_hidden_layers) == (32, 2)
    assert (config.vision_config.patches.hidden_size, config.vision_config.patches.patch_size) == (32, 8)
    assert [type(part) for part in configs_within(config)] == [Older, Tower, Patches]


def test_a_placeholder_token_has_one_id_in_all_its_parts() -> None:
    config = tiny_config(Older, Recipe())
    assert config.image_token_id == config.vision_config.image_token_id
    assert FIRST_SPECIAL_ID <= config.image_token_id < config.vocab_size


def test_a_part_that_is_none_by_default_stays_none() -> None:
    assert tiny_config(Older, Recipe()).audio_config is None


def test_a_part_that_is_none_by_default_is_made_if_the_recipe_corrects_it() -> None:
    audio = tiny_config(Older, Recipe(config={"audio_config.num_hidden_layers": 1})).audio_config
    assert (type(audio), audio.num_hidden_layers, audio.hidden_size, audio.patches.hidden_size) == (Tower, 1, 32, 32)


def test_a_recipe_reaches_into_parts_at_every_depth() -> None:
    corrections = {"vision_config.hidden_size": 48, "vision_config.patches.patch_size": 4}
    config = tiny_config(Older, Recipe(config=corrections))
    assert (config.hidden_size, config.vision_config.hidden_size) == (32, 48)
    assert (config.vision_config.patches.hidden_size, config.vision_config.patches.patch_size) == (32, 4)


def test_a_recipe_chooses_the_class_of_a_part() -> None:
    config = tiny_config(Older, Recipe(config={"vision_config.model_type": "siglip_vision_model"}))
    assert type(config.vision_config).__name__ == "SiglipVisionConfig"
    assert (config.vision_config.hidden_size, config.vision_config.num_hidden_layers) == (32, 2)


def test_releases_correct_what_a_recipe_says_of_all() -> None:
    def of(release: str) -> dict[str, Any]:
        return dict(recipe("granitemoehybrid", "GraniteMoeHybridForCausalLM", release).config)

    newest = of("5.23.0")
    assert newest["layer_types"] == ["linear_attention", "full_attention"]
    assert of("5.24.0.dev0") == newest
    assert of("5.13.0") == newest | {"output_router_logits": False}
    assert of("5.12.1") == newest | {"output_router_logits": False, "layer_types": ["mamba", "attention"]}
    assert of("4.57.6") == of("5.12.1")


def test_a_later_release_table_wins() -> None:
    assert recipe("dbrx", "DbrxForCausalLM", "5.5.4").config["output_router_logits"] is False
    assert recipe("dbrx", "DbrxForCausalLM", "4.57.6").config["output_router_logits"] is True


def recipe_tables() -> Iterator[tuple[str, dict[str, Any]]]:
    data = tomllib.loads((files("fusegen.verify") / "tiny_models.toml").read_text(encoding="utf-8"))
    for release, kinds in {"all": {each: data[each] for each in ("models", "classes")}, **data["releases"]}.items():
        for kind, tables in kinds.items():
            yield from ((f"{release} {kind}.{name}", table) for name, table in tables.items())
            assert kind in ("models", "classes"), release


def test_no_recipe_says_what_nobody_reads() -> None:
    read = {field.name for field in dataclasses.fields(Recipe)}
    assert {name: set(table) - read for name, table in recipe_tables() if not set(table) <= read} == {}
