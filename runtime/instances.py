"""Patches single models: a bound method is put on the instance, and its class stays as it is.

A deep copy of a patched model is patched like it. A pickled one comes back as its class is then, also where
there is no fusegen.
"""

from __future__ import annotations

import gc
import inspect
import logging
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from types import FunctionType, MethodType
from weakref import WeakSet

from torch import nn

from fusegen.runtime import in_memory
from fusegen.runtime.bodies import Bodies, Offer
from fusegen.runtime.outcomes import Body, InstallError, InstallReport, Refused, refused
from fusegen.runtime.ownership import dotted_name
from fusegen.runtime.reasons import CONFLICT, UNREADABLE
from fusegen.runtime.swaps import swaps

logger = logging.getLogger("fusegen")


class Instances:
    """Every patched instance of the process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._modules: WeakSet[nn.Module] = WeakSet()
        self._bodies: dict[FunctionType, Body] = {}

    def install(self, model: nn.Module, bodies: Bodies) -> InstallReport:
        """Patches `model` and the modules in it. Under `strict` raises `InstallError` if it must refuse."""
        placed: list[tuple[nn.Module, Body]] = []
        refusals: dict[str, Refused] = {}
        unmatched: dict[str, Refused] = {}
        for module, owner in _label_handlers(model):
            offers = _offers(owner, bodies)
            if not offers:
                unmatched |= {each.name: each for each in _unmatched(module, owner)}
            for plan in (self._planned(module, owner, offer) for offer in offers):
                if isinstance(plan, Refused):
                    refusals[plan.name] = plan
                elif plan is not None:
                    placed.append((module, plan))
        tiers = {body.name: body.tier for _, body in placed}
        report = InstallReport(tiers, refused=tuple(refusals.values()), unmatched=tuple(unmatched.values()))
        if bodies.strict and (report.refused or not placed):
            raise InstallError(report)
        self._put(placed)
        _log(model, report)
        return report

    def uninstall(self, model: nn.Module | None = None) -> None:
        """Takes the patches off the modules of `model`; None: off every instance and its copies."""
        with self._lock:
            for module in list(self._everywhere() if model is None else model.modules()):
                for method in self._patches(module):
                    delattr(module, method)
                self._modules.discard(module)
            if model is None:
                self._bodies.clear()

    def is_patched(self, model: nn.Module) -> bool:
        """Whether `model` or a module in it has a patch of ours."""
        return any(self._patches(module) for module in model.modules())

    def counts(self) -> Counter[Body]:
        """How many instances run each body."""
        with self._lock:
            return Counter(body for module in self._everywhere() for body in self._patches(module).values())

    def _planned(self, module: nn.Module, owner: type, offer: Offer) -> Body | Refused | None:
        """The body that shall run, or why not; None if a subclass has a method of its own in its place."""
        if isinstance(offer, Refused):
            return offer
        if not _runs(module, owner, offer.method):
            return None
        held = vars(module).get(offer.method)
        if held is not None and offer.method not in self._patches(module) and not _is_own(held, module, offer.method):
            return refused(offer.name, CONFLICT, dotted_name(held))
        plan = swaps.planned(owner, offer)
        return plan if isinstance(plan, Refused) else offer

    def _put(self, placed: list[tuple[nn.Module, Body]]) -> None:
        with self._lock:
            for module, body in placed:
                self._bodies[body.function] = body
                self._modules.add(module)
                setattr(module, body.method, MethodType(body.function, module))

    def _patches(self, module: nn.Module) -> dict[str, Body]:
        return {
            name: self._bodies[held.__func__]
            for name, held in vars(module).items()
            if isinstance(held, MethodType) and held.__func__ in self._bodies
        }

    def _everywhere(self) -> set[nn.Module]:
        """The modules that were patched and their deep copies, which only the garbage collector knows."""
        bound = (each for each in gc.get_referrers(*self._bodies) if isinstance(each, MethodType))
        return {*self._modules, *(each.__self__ for each in bound if isinstance(each.__self__, nn.Module))}


def _label_handlers(model: nn.Module) -> Iterator[tuple[nn.Module, type]]:
    """The modules in a model with each of their classes that may compute a loss."""
    known: dict[type, bool] = {}
    for module in model.modules():
        for owner in type(module).__mro__:
            if owner not in known:
                known[owner] = _handles_labels(owner)
            if known[owner]:
                yield module, owner


def _handles_labels(owner: type) -> bool:
    """Whether a class is one of a model, with something like labels in a method; nothing else needs to be read."""
    package, _, inside = owner.__module__.partition(".")
    if package in ("builtins", "torch") or (package == "transformers" and not inside.startswith("models.")):
        return False
    functions = (inspect.unwrap(each) for each in vars(owner).values() if isinstance(each, FunctionType))
    return any("label" in name for each in functions for name in each.__code__.co_varnames)


def _offers(owner: type, bodies: Bodies) -> list[Offer]:
    place = f"{owner.__module__}.{owner.__qualname__}"
    module = sys.modules.get(owner.__module__)
    if module is None:
        return [refused(place, UNREADABLE, "its module is not loaded")]
    return [
        offer
        for offer in bodies.of_module(module)
        if offer.name == module.__name__ or offer.name.rpartition(".")[0] == place
    ]


def _unmatched(module: nn.Module, owner: type) -> Iterator[Refused]:
    for each in in_memory.generated(sys.modules[owner.__module__]).unmatched:
        place, _, method = each.name.rpartition(".")
        if place == f"{owner.__module__}.{owner.__qualname__}" and _runs(module, owner, method):
            yield each


def _runs(module: nn.Module, owner: type, method: str) -> bool:
    """Whether the method of an instance is that of `owner`, not of a subclass that has one of its own."""
    return next((each for each in type(module).__mro__ if method in vars(each)), None) is owner


def _is_own(held: object, module: nn.Module, method: str) -> bool:
    """Whether what an instance holds is its class's own method after all: unpickling leaves it bound there."""
    return held == getattr(type(module), method).__get__(module)


def _log(model: nn.Module, report: InstallReport) -> None:
    for each in (*report.refused, *report.unmatched):
        logger.warning("%s runs unfused: %s %s", each.name, each.code, each.reason)
    if not (report.tiers or report.refused or report.unmatched):
        logger.warning("%s runs unfused: it computes no loss over a vocabulary", type(model).__name__)


instances = Instances()
