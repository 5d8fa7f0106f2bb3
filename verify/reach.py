"""How much of a model its checks train: where no gradient arrives, a difference would show in none of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from fusegen.verify.records import Reach
from fusegen.verify.running import Ran, raised
from fusegen.verify.tiny_models import TinyModel


def reach(tiny: TinyModel, answers: Iterable[Ran]) -> Reach:
    """What the batch of a model held, and which of its parameters the answers of the original gave a gradient."""
    names = [name for name, parameter in tiny.model.named_parameters() if parameter.requires_grad]
    trained = {name for answer in answers for name in _trained(answer.gradients)} & set(names)
    return Reach(
        batch=tiny.batch.kinds,
        trained=len(trained),
        parameters=len(names),
        untrained=outermost(names, trained),
        reason=tiny.untrained if len(trained) < len(names) else "",
        refused=str(raised(tiny.batch.refusal)) if tiny.batch.refusal else "",
    )


def outermost(names: Iterable[str], trained: Iterable[str]) -> tuple[str, ...]:
    """The modules in which nothing is trained, each by the shortest path; a parameter, where its module is trained."""
    alive = {path for name in trained for path in _paths(name)}
    dead = (next((path for path in _paths(name) if path not in alive), None) for name in names)
    return tuple(dict.fromkeys(path for path in dead if path is not None))


def _paths(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:number]) for number in range(1, len(parts) + 1)]


def _trained(gradients: Mapping[str, Tensor | None]) -> Iterable[str]:
    for name, gradient in gradients.items():
        if gradient is not None and bool(gradient.isfinite().all()) and bool(gradient.any()):
            yield name
