"""What the tiny models need to be told, read from tiny_models.toml: sizes by field name, and recipes by model.

A recipe is what a model folder says, with what its class says on top, then what both say for a release.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from packaging.specifiers import SpecifierSet


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one class differs from what its names say.

    `config`: fields, sub-configs as paths. `attributes`: set on configs that lack them. `inputs`: arguments of
    forward. `media`: those beside the text, and `placeholders` how many a row has of each kind, if the model does not
    say it. `host`: the model that holds the class, where it is none itself. `skip`: why it cannot be built.
    `untrained`: why there are parameters that no batch trains. `tying`: why head and embeddings cannot be tied
    otherwise than they are.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    media: Mapping[str, Any] = field(default_factory=dict)
    placeholders: Mapping[str, int] = field(default_factory=dict)
    host: str | None = None
    skip: str | None = None
    untrained: str | None = None
    tying: str | None = None


def recipe(model: str, class_name: str, release: str) -> Recipe:
    """The recipe of a class in a model folder of a release of transformers."""
    layers = [{"attributes": _data()["attributes"]}]
    for tables in _tables(release):
        layers += [tables.get("models", {}).get(model, {}), tables.get("classes", {}).get(class_name, {})]
    merged: dict[str, Any] = {}
    for name in ("config", "attributes", "inputs", "media", "placeholders"):
        merged[name] = {key: value for layer in layers for key, value in layer.get(name, {}).items()}
    for name in ("host", "skip", "untrained", "tying"):
        merged[name] = next((layer[name] for layer in reversed(layers) if name in layer), None)
    return Recipe(**merged)


def sizes() -> dict[str, int]:
    """The largest tiny value of a config field, by name or pattern."""
    return _data()["sizes"]


def defaults() -> dict[str, Any]:
    """The values of config fields that are None by default."""
    return _data()["defaults"]


def values() -> dict[str, Any]:
    """The values that config fields get whatever their default is."""
    return _data()["values"]


def inputs() -> dict[str, Any]:
    """What an argument of forward gets, by name."""
    return _data()["inputs"]


def holds() -> dict[str, list[str]]:
    """What a batch holds, and the arguments of forward that show it."""
    return _data()["holds"]


def layouts() -> list[dict[str, Any]]:
    """The arguments by which media enter, as tables of `holds` (the kind) and `inputs`."""
    return _data()["layouts"]


def marks() -> dict[str, dict[str, int]]:
    """The arguments that mark where in the text the media stand, and the number of each kind."""
    return _data()["marks"]


def compiled_classes() -> frozenset[str]:
    """The sample of classes that are compiled as well."""
    return frozenset(_data()["compile"]["classes"])


def _tables(release: str) -> list[Mapping[str, Any]]:
    """The tables `models` and `classes` of every release, then those of the specifiers that this one meets."""
    special = _data()["releases"]
    return [_data(), *(special[each] for each in special if SpecifierSet(each).contains(release, prereleases=True))]


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((files("fusegen.verify") / "tiny_models.toml").read_text(encoding="utf-8"))
