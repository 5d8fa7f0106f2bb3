"""A batch for a tiny model, from the names in its forward's signature.

{tokens = [2, 10]}                    text tokens        {normal = [2, 3, 32, 32]}   floats
{labels = [2, 10]}                    some ignored       {below = 2, shape = [2]}    integers in [0, 2)
{full = 1, shape = [2, 10]}           one value          anything else               itself
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fusegen.verify.recipes import Recipe, inputs
from fusegen.verify.tiny_config import FIRST_SPECIAL_ID

IGNORED = -100
_FIRST_TEXT_ID = 5

# One of these is what a model reads; the first that its forward takes is given.
_MAIN = ("input_ids", "input_features", "input_values", "pixel_values", "flattened_patches")


def tiny_inputs(forward: Callable[..., Any], recipe: Recipe) -> dict[str, Any]:
    """Keyword arguments for `forward`, the same at each call; labels are among them."""
    taken = inspect.signature(forward).parameters
    main = next((name for name in _MAIN if name in taken and recipe.inputs.get(name) is not False), None)
    wanted = {name: spec for name, spec in inputs().items() if name in taken and (name not in _MAIN or name == main)}
    generator = torch.Generator().manual_seed(1)
    chosen = {**wanted, **recipe.inputs}
    return {name: _value(spec, generator) for name, spec in chosen.items() if spec is not False}


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
