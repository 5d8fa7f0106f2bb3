"""A tiny instance of any config class: fields shrunk by name, sub-configs too.

    tiny_config(Gemma3Config, recipe)      the sizes of tiny_models.toml, then what the recipe corrects

Recipes hold field names as paths: `text_config.hidden_size` is a field of a sub-config.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from fusegen.verify.recipes import Recipe, defaults, sizes, values

Fields = dict[str, Any]

# Token ids from here on belong to placeholders (images, audio, ...); text is drawn from below.
FIRST_SPECIAL_ID = 64
_SPECIAL = ("_token_id", "_token_index", "_start_id", "_end_id", "_bos_id", "_eos_id", "_pad_id", "_nothink_id")


def tiny_config(config_class: type, recipe: Recipe) -> Any:
    """An instance of `config_class` with every size small; raises what the config's own validation raises."""
    config = config_class(**_Shrinker(recipe.config).fields(config_class))
    for part in configs_within(config):
        for name, value in recipe.attributes.items():
            if getattr(part, name, None) is None:
                setattr(part, name, value)
    return config


def configs_within(config: Any) -> Iterator[Any]:
    """A config and its sub-configs, at any depth."""
    yield config
    for value in list(vars(config).values()):
        if hasattr(type(value), "model_type"):
            yield from configs_within(value)


class _Shrinker:
    """The fields of one model's configs; a placeholder token has the same id in each of them."""

    def __init__(self, corrections: Mapping[str, Any]) -> None:
        self._corrections = corrections
        self._special_ids: dict[str, int] = {}

    def fields(self, config_class: type, path: str = "", given: Fields | None = None) -> Fields:
        """The keyword arguments that make a tiny `config_class`; `given` are those that its owner asks for."""
        known = _defaults(config_class) | (given or {})
        parts = getattr(config_class, "sub_configs_defaults", None)
        older = {} if parts is not None else _older_parts(config_class, self._corrections, path)
        parts = parts or {}
        plain = {name: value for name, value in known.items() if name not in parts and name not in older}
        small = {name: self._shrunk(name, value, known) for name, value in plain.items()}
        changed = {name: value for name, value in small.items() if value is not plain[name] or name in (given or ())}
        for name, part in parts.items():
            if not part.optional or known.get(name) is not None or self._corrected(f"{path}{name}."):
                changed[name] = self._part(part, f"{path}{name}.")
        for name, part_class in older.items():
            inner = self.fields(part_class, f"{path}{name}.")
            changed[name] = inner | {"model_type": part_class.model_type}
        return changed | self._corrected(path)

    def _part(self, part: Any, path: str) -> Any:
        model_type = self._corrections.get(f"{path}model_type")
        named = not model_type and dataclasses.is_dataclass(part.config_class)
        config_class = part.config_class if named else part.get_config_class(model_type or part.model_type)
        return config_class(**self.fields(config_class, path, None if model_type else dict(part.init_kwargs)))

    def _corrected(self, path: str) -> Fields:
        inside = {name.removeprefix(path): value for name, value in self._corrections.items() if name.startswith(path)}
        return {name: value for name, value in inside.items() if "." not in name and name != "model_type"}

    def _shrunk(self, name: str, value: Any, known: Fields) -> Any:
        if name in values():
            return values()[name]
        if value is None:
            return defaults().get(name)
        if name.endswith(_SPECIAL) and not isinstance(value, bool | float):
            return self._special_id(name, value)
        if isinstance(value, float):
            return 0.0 if value and ("drop" in name) else value
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        if "key_value_heads" in name:
            return min(value, 4 if known.get(name.replace("key_value", "attention")) in (None, value) else 2)
        size = _size(name)
        return value if size is None or value <= size else size

    def _special_id(self, name: str, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(self._special_id(f"{name}{number}", each) for number, each in enumerate(value))
        if value < FIRST_SPECIAL_ID:
            return value
        return self._special_ids.setdefault(name, FIRST_SPECIAL_ID + len(self._special_ids))


def _defaults(config_class: type) -> Fields:
    """What the fields of a config class are if nothing is said; those that are made at each call are left out."""
    if not dataclasses.is_dataclass(config_class):
        parameters = inspect.signature(config_class).parameters.values()
        return {each.name: each.default for each in parameters if each.default is not each.empty}
    fields = dataclasses.fields(config_class)
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


def _older_parts(config_class: Any, corrections: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The classes of the sub-configs where the release keeps no defaults of them: those that a default config holds.

    One that it holds none of is of the class that is declared, if there are corrections for it.
    """
    declared = getattr(config_class, "sub_configs", {})
    if not declared:
        return {}
    from transformers import CONFIG_MAPPING

    corrected = {name: corrections.get(f"{path}{name}.model_type") for name in declared}
    named = {name: CONFIG_MAPPING[model_type] for name, model_type in corrected.items() if model_type}
    default = None if len(named) == len(declared) else config_class()
    held = {name: type(getattr(default, name, None)) for name in declared if name not in named}
    missing = [name for name, part in held.items() if not hasattr(part, "model_type")]
    asked = {name for name in missing if any(each.startswith(f"{path}{name}.") for each in corrections)}
    parts = named | held | {name: declared[name] for name in asked}
    return {name: part for name, part in parts.items() if hasattr(part, "model_type")}


def _size(name: str) -> int | None:
    known = sizes()
    if name in known:
        return known[name]
    return next((size for pattern, size in known.items() if "*" in pattern and fnmatchcase(name, pattern)), None)
