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

_NOTHING = (
    "None of the forwards in {tree} is verified for {source} {version}. Generate a tree from it and verify that "
    "(`fusegen emit`, `fusegen verify --record`), or install without strict."
)
_NOT_IMPORTED = (
    "{module} is not imported, since install(strict=True) is in force. Instead of that, install without strict, or "
    "patch single models: install(model, strict=True)."
)


class Installer:
    """The state of the process: the bodies in force, and what became of each method.

    No lock is held while a module is imported: another thread may hold that module's import lock and wait for ours.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: Bodies | None = None
        self._outcomes: dict[str, str | Refused | None] = {}
        self._told: set[Refused] = set()
        self._watcher = ImportWatcher(self._imported)

    @property
    def bodies(self) -> Bodies | None:
        """What is installed, or None."""
        return self._bodies

    def install(self, tree: GeneratedTree, strict: bool) -> InstallReport:
        """Patches what is loaded and watches for the rest.

        Under `strict` raises `InstallError` if it must refuse something that is loaded, or all that there is; a module
        of which it refuses something is not imported later.
        """
        bodies = Bodies.of(tree, strict)
        outcomes: dict[str, str | Refused | None] = {method.name: bodies.foreseen(method) for method in bodies.methods}
        if strict:
            _assert_admissible(bodies)
        if self._bodies and self._bodies.tree != tree:
            self.uninstall()
        with self._lock:
            self._bodies, self._outcomes = bodies, outcomes
            self._watcher.watch(lambda name: _is_model(name, tree.source))
        try:
            # Listed after the watch has begun: another thread may import a module at any moment.
            for module in loaded_models(tree.source):
                self._patch(bodies, module)
        except InstallError:
            self.uninstall()
            raise
        return self.report()

    def uninstall(self) -> None:
        """Puts every original method back and stops watching."""
        with self._lock:
            self._watcher.watch(None)
            self._bodies, self._outcomes = None, {}
            swaps.restore()

    def report(self) -> InstallReport:
        """How things stand now. Instances that run something else are among what is refused, and logged once."""
        with self._lock:
            outcomes = dict(self._outcomes)
        hidden = swaps.hidden()
        for each in hidden:
            if each not in self._told:
                self._told.add(each)
                logger.warning("%s runs unfused: %s %s", each.name, each.code, each.reason)
        return _report(outcomes, hidden)

    def _imported(self, module: ModuleType) -> None:
        bodies = self._bodies
        if bodies is not None:
            self._patch(bodies, module)

    def _patch(self, bodies: Bodies, module: ModuleType) -> None:
        plans = _planned(bodies, module)
        refusals = tuple(plan for plan in plans if isinstance(plan, Refused))
        if bodies.strict and refusals:
            raise InstallError(InstallReport({}, refused=refusals), _NOT_IMPORTED.format(module=module.__name__))
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


def _assert_admissible(bodies: Bodies) -> None:
    """Raises `InstallError` for what is refused by now: what is loaded, what can never be, and all if nothing is left.

    A refusal in a module that may still be imported waits for that.
    """
    loaded = list(loaded_models(bodies.tree.source))
    names = {module.__name__ for module in loaded}
    waiting = {each.name for each in bodies.methods if each.source_module not in names and bodies.hashes[each.file]}
    outcomes: dict[str, Swap | Refused | None] = {method.name: bodies.foreseen(method) for method in bodies.methods}
    outcomes |= {plan.name: plan for module in loaded for plan in _planned(bodies, module)}
    pending = tuple(name for name, outcome in outcomes.items() if outcome is None)
    refusals = [outcome for outcome in outcomes.values() if isinstance(outcome, Refused)]
    by_now = tuple(each for each in refusals if each.name not in waiting)
    if by_now:
        raise InstallError(InstallReport({}, pending, by_now))
    if len(refusals) == len(outcomes):
        nothing = _NOTHING.format(tree=bodies.tree.package, source=bodies.tree.source, version=bodies.version)
        raise InstallError(InstallReport({}, refused=tuple(refusals)), nothing)


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
        except Exception as error:
            logger.debug("%s could not be imported: %s", name, error)


def _is_model(name: str, package: str) -> bool:
    return name.startswith(f"{package}.models.") and name.rpartition(".")[2].startswith("modeling_")


def _report(outcomes: dict[str, str | Refused | None], hidden: list[Refused]) -> InstallReport:
    return InstallReport(
        tiers={name: outcome for name, outcome in outcomes.items() if isinstance(outcome, str)},
        pending=tuple(name for name, outcome in outcomes.items() if outcome is None),
        refused=(*(outcome for outcome in outcomes.values() if isinstance(outcome, Refused)), *hidden),
    )


installer = Installer()
