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
from collections.abc import Iterator, Mapping, Set
from types import FunctionType, MethodType
from weakref import WeakSet

from torch import nn

from fusegen.runtime import in_memory
from fusegen.runtime.bodies import Bodies, Offer
from fusegen.runtime.outcomes import Body, InstallError, InstallReport, Refused, refused
from fusegen.runtime.ownership import dotted_name
from fusegen.runtime.reasons import CONFLICT, OVERRIDES, UNREADABLE
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
                    refusals.setdefault(plan.name, plan)
                else:
                    placed.append((module, plan))
        tiers = {body.name: body.tier for _, body in placed}
        refusals = {name: each for name, each in refusals.items() if not _is_answered(each, tiers, unmatched)}
        report = InstallReport(tiers, refused=tuple(refusals.values()), unmatched=tuple(unmatched.values()))
        if bodies.strict and (report.refused or not placed):
            raise InstallError(report)
        self._put(placed)
        _log(model, report)
        return report

    def uninstall(self, model: nn.Module | None = None, keep: Set[nn.Module] = frozenset()) -> None:
        """Takes the patches off the modules of `model` but those in `keep`; None: off every instance and its copies."""
        with self._lock:
            for module in (self._everywhere() if model is None else set(model.modules())) - keep:
                for name, body in self._patches(module).items():
                    _take_off(module, name, body)
                self._modules.discard(module)
            if model is None:
                self._bodies.clear()

    def patched(self, model: nn.Module) -> set[nn.Module]:
        """The modules in `model`, itself among them, that have a patch of ours."""
        return {module for module in model.modules() if self._patches(module)}

    def counts(self) -> Counter[Body]:
        """How many instances run each body."""
        with self._lock:
            return Counter(body for module in self._everywhere() for body in self._patches(module).values())

    def _planned(self, module: nn.Module, owner: type, offer: Offer) -> Body | Refused:
        """The body that shall run, or why not."""
        if isinstance(offer, Refused):
            return offer
        runs = _owner(module, offer.method)
        if runs is not owner:
            return refused(f"{_place(runs)}.{offer.method}", OVERRIDES, offer.name)
        held = vars(module).get(offer.method)
        patches = self._patches(module)
        if held is not None and offer.method not in patches and not _is_own(held, module, offer.method):
            wrapped = next((body for body in patches.values() if body.name == offer.name), None)
            return wrapped or refused(offer.name, CONFLICT, dotted_name(held))
        plan = swaps.planned(owner, offer)
        return plan if isinstance(plan, Refused) else offer

    def _put(self, placed: list[tuple[nn.Module, Body]]) -> None:
        with self._lock:
            for module, body in placed:
                if body in self._patches(module).values():
                    continue
                self._bodies[body.function] = body
                self._modules.add(module)
                setattr(module, body.method, MethodType(body.function, module))

    def _patches(self, module: nn.Module) -> dict[str, Body]:
        """Our methods by the attributes that hold them: what wraps a method keeps it under a name of its own."""
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
    """Whether a class is one of a model, with something like labels in a method; nothing else needs to be read.

    A forward from elsewhere counts as well: it hides what was there, whatever it calls its parameters.
    """
    package, _, inside = owner.__module__.partition(".")
    if package in ("builtins", "torch") or (package == "transformers" and not inside.startswith("models.")):
        return False
    methods = {name: inspect.unwrap(each) for name, each in vars(owner).items() if isinstance(each, FunctionType)}
    if "forward" in methods and methods["forward"].__globals__.get("__name__") != owner.__module__:
        return True
    return any("label" in name for each in methods.values() for name in each.__code__.co_varnames)


def _offers(owner: type, bodies: Bodies) -> list[Offer]:
    place = _place(owner)
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
        if place == _place(owner) and _owner(module, method) is owner:
            yield each


def _owner(module: nn.Module, method: str) -> type:
    """The class whose method an instance runs: a subclass may have one of its own."""
    return next((each for each in type(module).__mro__ if method in vars(each)), type(module))


def _place(owner: type) -> str:
    """The dotted name of a class."""
    return f"{owner.__module__}.{owner.__qualname__}"


def _is_answered(each: Refused, tiers: Mapping[str, str], unmatched: Mapping[str, Refused]) -> bool:
    """Whether it is about a method that was looked at itself, and only what it overrides is out of reach."""
    return each.code == OVERRIDES and (each.name in tiers or each.name in unmatched)


def _take_off(module: nn.Module, name: str, body: Body) -> None:
    """Deletes a patch. What somebody has wrapped since is left, since their wrapper calls it, with a warning."""
    if name == body.method:
        delattr(module, name)
    else:
        by = dotted_name(vars(module).get(body.method))
        logger.warning("%s was wrapped since by %s and is left", body.name, by)


def _is_own(held: object, module: nn.Module, method: str) -> bool:
    """Whether what an instance holds is its class's own method after all: unpickling leaves it bound there."""
    return held == getattr(type(module), method).__get__(module)


def _log(model: nn.Module, report: InstallReport) -> None:
    for each in (*report.refused, *report.unmatched):
        logger.warning("%s runs unfused: %s %s", each.name, each.code, each.reason)
    if not (report.tiers or report.refused or report.unmatched):
        logger.warning("%s runs unfused: no loss over a vocabulary was found in it", type(model).__name__)


instances = Instances()
