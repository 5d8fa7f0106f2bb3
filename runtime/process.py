"""Patches the classes of the process: those of loaded modules at once, the others when they are imported."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from fusegen.runtime.bodies import Bodies
from fusegen.runtime.import_hook import ImportWatcher
from fusegen.runtime.manifest import GeneratedTree
from fusegen.runtime.outcomes import InstallError, InstallReport, Refused
from fusegen.runtime.swaps import Swap, swaps

logger = logging.getLogger("fusegen")


class Installer:
    """The state of the process: the bodies in force, and what became of each method.

    No lock is held while a module is imported: another thread may hold that module's import lock and wait for ours.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: Bodies | None = None
        self._outcomes: dict[str, str | Refused | None] = {}
        self._watcher = ImportWatcher(self._imported)

    @property
    def bodies(self) -> Bodies | None:
        """What is installed, or None."""
        return self._bodies

    def install(self, tree: GeneratedTree, strict: bool) -> InstallReport:
        """Patches what is loaded and watches for the rest. Under `strict` raises `InstallError` if it must refuse."""
        bodies = Bodies.of(tree, strict)
        outcomes: dict[str, str | Refused | None] = {method.name: bodies.foreseen(method) for method in bodies.methods}
        loaded = list(loaded_models(tree.source))
        if strict:
            planned = [plan for module in loaded for plan in _planned(bodies, module)]
            foreseen = outcomes | {plan.name: plan if isinstance(plan, Refused) else None for plan in planned}
            if any(isinstance(outcome, Refused) for outcome in foreseen.values()):
                raise InstallError(_report(foreseen))
        if self._bodies and self._bodies.tree != tree:
            self.uninstall()
        with self._lock:
            self._bodies, self._outcomes = bodies, outcomes
            self._watcher.watch(lambda name: _is_model(name, tree.source))
        for module in loaded:
            self._patch(bodies, module)
        return self.report()

    def uninstall(self) -> None:
        """Puts every original method back and stops watching."""
        with self._lock:
            self._watcher.watch(None)
            self._bodies, self._outcomes = None, {}
            swaps.restore()

    def report(self) -> InstallReport:
        """How things stand now."""
        with self._lock:
            return _report(self._outcomes)

    def _imported(self, module: ModuleType) -> None:
        bodies = self._bodies
        if bodies is not None:
            bodies.tree.forget(module.__name__)
            self._patch(bodies, module)

    def _patch(self, bodies: Bodies, module: ModuleType) -> None:
        plans = _planned(bodies, module)
        self._no_longer_pending(bodies, module)
        for plan in plans:
            with self._lock:
                if self._bodies is not bodies:
                    return
                if isinstance(plan, Swap):
                    swaps.put(plan)
                    self._outcomes[plan.name] = plan.body.tier
                else:
                    self._outcomes[plan.name] = plan
            if isinstance(plan, Refused):
                logger.warning("%s runs unfused: %s %s", plan.name, plan.code, plan.reason)

    def _no_longer_pending(self, bodies: Bodies, module: ModuleType) -> None:
        """A module of another version may lack what the tree expected in it."""
        with self._lock:
            for method in bodies.methods:
                if method.source_module == module.__name__ and self._outcomes.get(method.name) is None:
                    self._outcomes.pop(method.name, None)


def _planned(bodies: Bodies, module: ModuleType) -> list[Swap | Refused]:
    offers = bodies.of_module(module)
    return [
        offer if isinstance(offer, Refused) else swaps.planned(vars(module).get(offer.class_name), offer)
        for offer in offers
    ]


def loaded_models(package: str) -> Iterator[ModuleType]:
    """The modeling modules that are loaded; one that is just being imported by another thread is waited for."""
    for name in [name for name in list(sys.modules) if _is_model(name, package)]:
        try:
            yield import_module(name)
        except ImportError:
            logger.debug("%s could not be imported", name)


def _is_model(name: str, package: str) -> bool:
    return name.startswith(f"{package}.models.") and name.rpartition(".")[2].startswith("modeling_")


def _report(outcomes: dict[str, str | Refused | None]) -> InstallReport:
    return InstallReport(
        tiers={name: outcome for name, outcome in outcomes.items() if isinstance(outcome, str)},
        pending=tuple(name for name, outcome in outcomes.items() if outcome is None),
        refused=tuple(outcome for outcome in outcomes.values() if isinstance(outcome, Refused)),
    )


installer = Installer()
