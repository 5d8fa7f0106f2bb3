"""Which fused bodies there are for an imported module, and from where: the first of

    canonical    a forward that somebody registered for exactly this original
    given        the tree that `install` was given, or
    shipped      the one that comes with fusegen, where the hash of the source is that of the installed file
    in-memory    generated from the installed source, where it is not

A stale body is never among them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import ModuleType

from fusegen.runtime import in_memory, reasons
from fusegen.runtime.canonical import canonical_bodies
from fusegen.runtime.manifest import GeneratedTree, PatchedMethod, installed_hashes, installed_version
from fusegen.runtime.outcomes import SHIPPED, Body, Refused, refused

logger = logging.getLogger("fusegen")

Offer = Body | Refused


@dataclass(frozen=True, slots=True)
class Bodies:
    """A generated tree beside the installed package. Under `strict` nothing is generated and nothing unverified used.

    `hashes` are those of the installed files, None where there is none.
    """

    tree: GeneratedTree
    strict: bool
    version: str | None
    hashes: dict[str, str | None]

    @classmethod
    def of(cls, tree: GeneratedTree, strict: bool) -> Bodies:
        return cls(tree, strict, installed_version(tree.source), installed_hashes(tree))

    @property
    def methods(self) -> tuple[PatchedMethod, ...]:
        """Those of the tree; of one made from another version, those whose files there are."""
        if not self._is_of_another_version:
            return self.tree.methods
        return tuple(method for method in self.tree.methods if self.hashes[method.file] is not None)

    @property
    def _is_of_another_version(self) -> bool:
        return self.tree.tier == SHIPPED and self.tree.version != self.version

    def foreseen(self, method: PatchedMethod) -> Refused | None:
        """Why a method of the tree will not be patched, as far as that shows before its module is imported."""
        if self.hashes[method.file] is None:
            return refused(method.name, reasons.MISSING)
        if self.strict and not self.is_current(method):
            return refused(method.name, reasons.DRIFT)
        if self.strict and not self.is_verified(method):
            return refused(method.name, reasons.UNVERIFIED)
        return None

    def of_module(self, module: ModuleType) -> list[Offer]:
        """The bodies for what a module defines, one a method, and the refusals of those that there might be."""
        offers: dict[str, Offer] = {each.name: each for each in canonical_bodies(module)}
        for offer in self._generated(module):
            offers.setdefault(offer.name, offer)
        return list(offers.values())

    def _generated(self, module: ModuleType) -> list[Offer]:
        methods = [method for method in self.methods if method.source_module == module.__name__]
        if not methods:
            return [] if self._covers(module) else [self._admitted(offer) for offer in _in_memory(module)]
        if not self.strict and not all(map(self.is_current, methods)):
            return self._regenerated(module, methods)
        return [self.foreseen(method) or self._imported(method, module) for method in methods]

    def _covers(self, module: ModuleType) -> bool:
        """Whether the tree has all that there is to patch: it was chosen, or made from what is installed."""
        is_its_own = self.tree.tier != SHIPPED or module.__name__.startswith(f"{self.tree.source}.")
        return is_its_own and not self._is_of_another_version

    def _regenerated(self, module: ModuleType, methods: list[PatchedMethod]) -> list[Offer]:
        offers = {offer.name: offer for offer in _in_memory(module)}
        if self.tree.tier == SHIPPED:
            return list(offers.values())
        stale = "and none can be generated from it"
        return [offers.get(method.name) or refused(method.name, reasons.DRIFT, stale) for method in methods]

    def _imported(self, method: PatchedMethod, module: ModuleType) -> Offer:
        if method.class_name not in vars(module):
            return refused(method.name, reasons.MISSING)
        try:
            generated = self.tree.function(method)
        except Exception as error:
            logger.exception("%s.%s cannot be used", self.tree.package, method.module)
            return refused(method.name, reasons.BROKEN, f"{type(error).__name__}: {error}")
        place = method.source_module, method.class_name, method.method
        return Body(*place, generated, self.tree.tier, self.is_verified(method))

    def _admitted(self, offer: Offer) -> Offer:
        return refused(offer.name, reasons.UNVERIFIED) if self.strict and isinstance(offer, Body) else offer

    def is_current(self, method: PatchedMethod) -> bool:
        """Whether the method was generated from exactly the file that is installed."""
        return self.hashes[method.file] == method.sha256

    def is_verified(self, method: PatchedMethod) -> bool:
        """Whether `fusegen verify --record` has found the method equal to its original in the installed version."""
        return method.verified_for is not None and method.verified_for == self.version


def _in_memory(module: ModuleType) -> list[Offer]:
    made = in_memory.generated(module)
    return [*made.bodies, *made.refused]
