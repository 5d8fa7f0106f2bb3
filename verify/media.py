"""Images, videos and audio in a batch: what a forward takes beside the text, and the placeholders in the text for it.

A model says itself how many placeholders it wants: it hands the features that its towers made to its own
`get_placeholder_mask`. Placeholders stand before the text of each row, and no label is on them, as in real batches.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fusegen.verify.recipes import Recipe, layouts, marks
from fusegen.verify.tiny_config import configs_within

Inputs = dict[str, Any]
IGNORED = -100
KINDS = ("image", "video", "audio")
_FEATURES = "features"
_MASK = "get_placeholder_mask"
_TOKENS = ("{}_token_id", "{}_token_index")


def media_specs(model: Any, recipe: Recipe) -> Inputs:
    """The specs of the media that a model's forward takes, by argument, with those of the recipe on top.

    A layout counts if the forward takes all of its arguments and the config has a placeholder for its kind, and the
    first of each kind.
    """
    taken = inspect.signature(model.forward).parameters
    chosen: dict[str, Inputs] = {}
    for layout in layouts():
        specs = layout["inputs"]
        if _token(model.config, layout["holds"]) is not None and all(name in taken for name in specs):
            chosen.setdefault(layout["holds"], specs)
    merged = {name: spec for specs in chosen.values() for name, spec in specs.items()} | dict(recipe.media)
    return {name: spec for name, spec in merged.items() if name in taken and spec is not False}


def with_placeholders(model: Any, inputs: Inputs, recipe: Recipe) -> Inputs:
    """The inputs with as many placeholders before the text as the media in them make features.

    Raises:
        whatever the forward raises on media that do not suit it; ValueError: it never has as many as it wants.
    """
    counts = dict(recipe.placeholders)
    for _ in range(len(KINDS) + 1):
        placed = _placed(model, inputs, counts)
        asked, error = _asked(model, placed)
        if asked.items() <= counts.items():
            if error is not None:
                raise error
            return placed
        counts |= asked
    raise ValueError("it wants another number of placeholders at each call")


def _asked(model: Any, inputs: Inputs) -> tuple[dict[str, int], Exception | None]:
    """How many placeholders a row has to have, by kind, as far as the forward gets; and what ended it."""
    kinds = {_token(model.config, kind): kind for kind in KINDS}
    asked: dict[str, int] = {}

    def asking(mask: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*arguments: Any, **keywords: Any) -> Any:
            bound = inspect.signature(mask).bind(*arguments, **keywords).arguments
            for name, value in bound.items():
                if name.endswith(_FEATURES) and isinstance(value, Tensor):
                    kind = name.removesuffix(_FEATURES).rstrip("_") or kinds[bound["token_id"]]
                    asked[kind] = value.numel() // value.shape[-1] // len(inputs["input_ids"])
            return mask(*arguments, **keywords)

        return ask

    with _wrapped(model, asking), torch.no_grad():
        try:
            model(**inputs)
        except Exception as error:
            return asked, error
    return asked, None


@contextmanager
def _wrapped(model: nn.Module, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    modules: list[Any] = [module for module in model.modules() if hasattr(type(module), _MASK)]
    for module in modules:
        module.get_placeholder_mask = wrap(module.get_placeholder_mask)
    try:
        yield
    finally:
        for module in modules:
            del module.get_placeholder_mask


def _placed(model: Any, inputs: Inputs, counts: Mapping[str, int]) -> Inputs:
    text, labels = inputs["input_ids"], inputs.get("labels")
    row = [_token(model.config, kind) for kind, number in counts.items() for _ in range(number)]
    before = text.new_tensor(row).expand(len(text), len(row))
    ids = torch.cat([before, text], dim=1)
    longer: Inputs = {"input_ids": ids}
    if labels is not None and labels.shape == text.shape and not model.config.is_encoder_decoder:
        longer["labels"] = torch.cat([torch.full_like(before, IGNORED), labels], dim=1)
    taken = inspect.signature(model.forward).parameters
    longer |= {name: _marked(model.config, ids, numbers) for name, numbers in marks().items() if name in taken}
    return inputs | longer


def _marked(config: Any, ids: Tensor, numbers: Mapping[str, int]) -> Tensor:
    marked = torch.zeros_like(ids)
    for kind, number in numbers.items():
        marked[ids == _token(config, kind)] = number
    return marked


def _token(config: Any, kind: str) -> int | None:
    found = (getattr(part, name.format(kind), None) for part in configs_within(config) for name in _TOKENS)
    return next((token for token in found if isinstance(token, int)), None)
