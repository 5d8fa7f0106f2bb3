"""Patches single models: they are marked, and their classes have a forward that looks for the mark (`scope.py`)."""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from types import CodeType, FunctionType

from torch import nn

from fusegen.runtime import in_memory
from fusegen.runtime.bodies import Bodies, Offer
from fusegen.runtime.outcomes import Body, InstallError, InstallReport, Refused, refused
from fusegen.runtime.reasons import OVERRIDES, UNREADABLE
from fusegen.runtime.scope import scope
from fusegen.runtime.swaps import Swap, swaps

logger = logging.getLogger("fusegen")

# What stands in the names of a method that may compute a loss.
_OF_LOSSES = ("label", "loss", "cross_entropy", "crossentropy", "target")


class Instances:
    """Every patched instance of the process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def install(self, model: nn.Module, bodies: Bodies) -> InstallReport:
        """Patches `model` and the modules in it. Under `strict` raises `InstallError` if it must refuse."""
        placed: list[tuple[nn.Module, Swap]] = []
        refusals: dict[str, Refused] = {}
        unmatched: dict[str, Refused] = {}
        for module, owner in _loss_handlers(model):
            offers = _offers(owner, bodies)
            if not offers:
                unmatched |= {each.name: each for each in _unmatched(module, owner)}
            for plan in (_planned(module, owner, offer) for offer in offers):
                if isinstance(plan, Refused):
                    refusals.setdefault(plan.name, plan)
                else:
                    placed.append((module, plan))
        tiers = {swap.name: swap.body.tier for _, swap in placed}
        refusals = {name: each for name, each in refusals.items() if not _is_answered(each, tiers, unmatched)}
        report = InstallReport(tiers, refused=tuple(refusals.values()), unmatched=tuple(unmatched.values()))
        if bodies.strict and (report.refused or not placed):
            raise InstallError(report)
        with self._lock:
            for module, swap in placed:
                scope.add(module)
                swaps.put(swap, marked=True)
                if _is_own(module, swap.body.method):
                    delattr(module, swap.body.method)
        _log(model, report)
        return report

    def uninstall(self, model: nn.Module | None = None, keep: Set[nn.Module] = frozenset()) -> None:
        """Takes the patches off the modules of `model` but those in `keep`; None: off every instance and its copies."""
        with self._lock:
            if model is None:
                scope.clear()
            else:
                for module in set(model.modules()) - keep:
                    scope.remove(module)
            if scope.is_empty():
                swaps.restore(marked=True)

    def patched(self, model: nn.Module) -> set[nn.Module]:
        """The modules in `model`, itself among them, that are patched."""
        return {module for module in model.modules() if scope.holds(module)}

    def counts(self) -> Counter[Body]:
        """How many instances run each body."""
        members = [] if scope.is_empty() else scope.members()
        return Counter(swap.body for swap in swaps.of_marked() for module in members if isinstance(module, swap.owner))


def _planned(module: nn.Module, owner: type, offer: Offer) -> Swap | Refused:
    """The swap after which the body shall run, or why not."""
    if isinstance(offer, Refused):
        return offer
    runs = _owner(module, offer.method)
    if runs is not owner and not _may_call(type(module), owner, offer.method):
        return refused(f"{_place(runs)}.{offer.method}", OVERRIDES, offer.name)
    held = vars(module).get(offer.method)
    if held is not None and not _is_own(module, offer.method):
        for code, detail in swaps.conflict(owner, offer.method, held):
            return refused(offer.name, code, detail)
    return swaps.planned(owner, offer)


def _loss_handlers(model: nn.Module) -> Iterator[tuple[nn.Module, type]]:
    """The modules in a model with each of their classes that may compute a loss."""
    known: dict[type, bool] = {}
    for module in model.modules():
        for owner in type(module).__mro__:
            if owner not in known:
                known[owner] = _handles_losses(owner)
            if known[owner]:
                yield module, owner


def _handles_losses(owner: type) -> bool:
    """Whether a class is one of a model, with something like labels or a loss in a method; no other needs to be read.

    A forward from elsewhere counts as well: it hides what was there, whatever it calls its parameters.
    """
    package, _, inside = owner.__module__.partition(".")
    if package in ("builtins", "torch") or (package == "transformers" and not inside.startswith("models.")):
        return False
    originals = {name: swaps.original(owner, name) for name in list(vars(owner))}
    methods = {name: inspect.unwrap(each) for name, each in originals.items() if isinstance(each, FunctionType)}
    if "forward" in methods and methods["forward"].__globals__.get("__name__") != owner.__module__:
        return True
    return any(
        word in name.lower() for each in methods.values() for name in _names(each.__code__) for word in _OF_LOSSES
    )


def _names(code: CodeType) -> Iterator[str]:
    """What a function mentions: its variables, globals and attributes, and those of the functions in it."""
    yield from (*code.co_varnames, *code.co_names, *code.co_freevars, *code.co_cellvars)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _may_call(cls: type, owner: type, method: str) -> bool:
    """Whether something in front of a class's method mentions it by name, as `super().forward(...)` does."""
    before = cls.__mro__[: cls.__mro__.index(owner)]
    functions = [inspect.unwrap(each) for front in before for each in vars(front).values() if inspect.isfunction(each)]
    return any(method in _names(each.__code__) for each in functions)


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


def _is_own(module: nn.Module, method: str) -> bool:
    """Whether an instance holds its class's own method, which it has anyway: `remove_hook_from_module` leaves it so."""
    held = vars(module).get(method)
    ours = swaps.original(_owner(module, method), method)
    return inspect.ismethod(held) and held.__self__ is module and held.__func__ is ours


def _log(model: nn.Module, report: InstallReport) -> None:
    for each in (*report.refused, *report.unmatched):
        logger.warning("%s runs unfused: %s %s", each.name, each.code, each.reason)
    if not (report.tiers or report.refused or report.unmatched):
        logger.warning("%s runs unfused: no loss over a vocabulary was found in it", type(model).__name__)


instances = Instances()
