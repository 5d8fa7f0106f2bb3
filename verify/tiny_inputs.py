"""A batch of two rows for a tiny model, from the names in its forward's signature.

{tokens = [2, 10]}                    text tokens        {normal = [2, 3, 32, 32]}   floats
{labels = [2, 10]}                    some ignored       {below = 2, shape = [2]}    integers in [0, 2)
{full = 1, shape = [2, 10]}           one value          {tensor = [[32, 32]]}       these values
anything else                         itself

The first axis of a tensor holds the rows, or what all rows have in equal number (images, patches); `rows` names
another axis.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fusegen.verify.media import IGNORED, media_specs, with_placeholders
from fusegen.verify.recipes import Recipe, holds, inputs
from fusegen.verify.tiny_config import FIRST_SPECIAL_ID

ROWS = 2
_FIRST_TEXT_ID = 5

# One of these is what a model reads; the first that its forward takes is given.
_MAIN = ("input_ids", "input_features", "input_values", "pixel_values", "flattened_patches")


@dataclass(frozen=True, slots=True)
class Batch:
    """Keyword arguments for a forward, labels among them.

    `first_row`: the same for that row alone. `text`: the batch without its media, if it has any. `refusal`: what the
    forward raised on the media that it takes, if the batch has to do without them.
    """

    inputs: dict[str, Any]
    first_row: dict[str, Any] = field(default_factory=dict)
    text: Batch | None = None
    refusal: Exception | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the batch holds: text, image, audio, ..."""
        return tuple(kind for kind, names in holds().items() if any(name in self.inputs for name in names))


def tiny_batch(model: Any, recipe: Recipe) -> Batch:
    """A batch for `model`, the same at each call: text, and the media that its forward takes as well."""
    specs = _text_specs(model.forward, recipe)
    inputs = _values(specs, seed=1)
    text = Batch(inputs, _first_row(inputs, specs))
    media = media_specs(model, recipe) if "input_ids" in inputs else {}
    if not media:
        return text
    try:
        both = with_placeholders(model, inputs | _values(media, seed=2), recipe)
    except Exception as error:
        return replace(text, refusal=error)
    return Batch(both, _first_row(both, specs | media), text)


def _text_specs(forward: Callable[..., Any], recipe: Recipe) -> dict[str, Any]:
    taken = inspect.signature(forward).parameters
    main = next((name for name in _MAIN if name in taken and recipe.inputs.get(name) is not False), None)
    wanted = {name: spec for name, spec in inputs().items() if name in taken and (name not in _MAIN or name == main)}
    return {name: spec for name, spec in {**wanted, **recipe.inputs}.items() if spec is not False}


def _first_row(batch: Mapping[str, Any], specs: Mapping[str, Any]) -> dict[str, Any]:
    row = dict(batch)
    for name, value in batch.items():
        spec = specs.get(name)
        axis = spec.get("rows", 0) if isinstance(spec, dict) else 0
        if isinstance(value, Tensor) and value.dim() and value.shape[axis] % ROWS == 0:
            row[name] = value.narrow(axis, 0, value.shape[axis] // ROWS)
    return row


def _values(specs: Mapping[str, Any], seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {name: _value(spec, generator) for name, spec in specs.items()}


def _value(spec: Any, generator: torch.Generator) -> Any:
    match spec:
        case {"tokens": shape}:
            return _tokens(shape, generator)
        case {"labels": shape}:
            return with_ignored(_tokens(shape, generator))
        case {"normal": shape}:
            return torch.randn(*shape, generator=generator)
        case {"below": below, "shape": shape}:
            return torch.randint(0, below, shape, generator=generator)
        case {"full": value, "shape": shape}:
            return torch.full(shape, value)
        case {"tensor": data}:
            return torch.tensor(data)
        case _:
            return spec


def _tokens(shape: list[int], generator: torch.Generator) -> Tensor:
    return torch.randint(_FIRST_TEXT_ID, FIRST_SPECIAL_ID - 4, shape, generator=generator)


def with_ignored(labels: Tensor) -> Tensor:
    """The labels with some ignored, fewer in the first row than in the last."""
    labels = labels.clone()
    labels[0, 3] = IGNORED
    labels[-1, 5:7] = IGNORED
    return labels
