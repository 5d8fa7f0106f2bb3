"""Puts generated forwards on the original classes, and takes them off again.

    install()        LlamaForCausalLM.forward = the generated one, for every class of the manifest
    uninstall()      LlamaForCausalLM.forward = the original function object

The classes stay what they are (name, signature, `architectures` in a checkpoint), and it does not
matter whether models exist already. Modules that are not imported yet are patched when they are. A
class is left alone if its source is not the one that the forward was generated from (FG501), or if
somebody else has patched it (FG502).
"""

from __future__ import annotations

import logging
import sys
import threading
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from fusegen.runtime import reasons
from fusegen.runtime.import_hook import ImportWatcher
from fusegen.runtime.manifest import GeneratedTree, PatchedMethod, installed_hashes, read_tree
from fusegen.runtime.policy import checked_choice, policy

logger = logging.getLogger("fusegen")

INSTALLED = "installed"
PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Refused:
    """A method that is left alone: its dotted name, a code, and the sentence that `reasons` has for it."""

    name: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class InstallReport:
    """How things stand when it is made, in dotted names of methods. Another `install()` gives a fresh one."""

    installed: tuple[str, ...]
    pending: tuple[str, ...]
    refused: tuple[Refused, ...]

    def __str__(self) -> str:
        counts = f"{len(self.installed)} installed, {len(self.pending)} pending import, {len(self.refused)} refused"
        return "\n".join([counts, *(f"{refused.name}: {refused.code} {refused.reason}" for refused in self.refused)])


class InstallError(RuntimeError):
    """Raised under `strict`: `report` says which methods are refused. Nothing has been patched."""

    def __init__(self, report: InstallReport) -> None:
        super().__init__(str(report))
        self.report = report


@dataclass(frozen=True, slots=True)
class _Swap:
    owner: type
    method: str
    original: FunctionType
    generated: FunctionType


class _Installer:
    """The state of the process: the tree in force, what became of each of its methods, and what was swapped.

    No lock is held while a module is imported: another thread may hold that module's import lock and wait for ours.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tree: GeneratedTree | None = None
        self._outcomes: dict[PatchedMethod, str] = {}
        self._swaps: dict[tuple[type, str], _Swap] = {}
        self._watcher = ImportWatcher(self._imported)

    def install(self, tree: GeneratedTree, strict: bool) -> InstallReport:
        hashes = installed_hashes(tree)
        outcomes = {method: _source_refusal(method, hashes[method.file]) or PENDING for method in tree.methods}
        sound = [method for method, outcome in outcomes.items() if outcome == PENDING]
        if strict:
            foreseen = {method: self._foresee(tree, method) for method in sound}
            report = _report(outcomes | {method: swap for method, swap in foreseen.items() if isinstance(swap, str)})
            if report.refused:
                raise InstallError(report)
        if self._tree not in (None, tree):
            self.uninstall()
        with self._lock:
            self._tree, self._outcomes = tree, outcomes
            self._watcher.watch(frozenset(method.source_module for method in sound))
        for method in sound:
            self._patch(tree, method)
        return _report(self._outcomes)

    def uninstall(self) -> None:
        with self._lock:
            self._watcher.watch(frozenset())
            self._tree, self._outcomes = None, {}
            for swap in self._swaps.values():
                if vars(swap.owner)[swap.method] is swap.generated:
                    setattr(swap.owner, swap.method, swap.original)
                else:
                    logger.warning("%s.%s was patched again since and is left", swap.owner.__name__, swap.method)
            self._swaps.clear()

    def _imported(self, module: ModuleType) -> None:
        tree = self._tree
        if tree is None:
            return
        for method in tree.methods:
            if method.source_module == module.__name__ and self._outcomes.get(method) != reasons.DRIFT:
                self._patch(tree, method)

    def _patch(self, tree: GeneratedTree, method: PatchedMethod) -> None:
        swap = self._foresee(tree, method)
        with self._lock:
            if self._tree is not tree:
                return
            if isinstance(swap, _Swap):
                self._swaps[swap.owner, swap.method] = swap
                setattr(swap.owner, swap.method, swap.generated)
            self._outcomes[method] = swap if isinstance(swap, str) else INSTALLED
        if swap in reasons.REASONS:
            logger.warning("%s runs unfused: %s %s", method.name, swap, reasons.REASONS[swap])

    def _foresee(self, tree: GeneratedTree, method: PatchedMethod) -> _Swap | str:
        """The swap that puts a method in place, or `pending`, or the code of why there is none."""
        if method.source_module not in sys.modules:
            return PENDING
        owner = getattr(import_module(method.source_module), method.class_name, None)
        current = vars(owner).get(method.method) if isinstance(owner, type) else None
        if owner is None or current is None:
            return reasons.MISSING
        held = self._swaps.get((owner, method.method))
        original = held.original if held and held.generated is current else current
        if not _is_genuine(original, owner):
            return reasons.CONFLICT
        try:
            generated = vars(getattr(tree.generated_module(method), method.class_name))[method.method]
        except Exception:
            logger.exception("%s.%s cannot be used", tree.package, method.module)
            return reasons.BROKEN
        return _Swap(owner, method.method, original, generated)


def _source_refusal(method: PatchedMethod, installed: str | None) -> str | None:
    if installed is None:
        return reasons.MISSING
    return reasons.DRIFT if installed != method.sha256 else None


def _is_genuine(function: Any, owner: type) -> bool:
    """Whether a method comes from its class's own module, under decorators of its package or of torch only.

    Judged by globals: `functools.wraps` makes a foreign function look like the original in every other way.
    """
    packages = {owner.__module__.partition(".")[0], "torch"}
    while isinstance(function, FunctionType):
        if not hasattr(function, "__wrapped__"):
            return function.__globals__["__name__"] == owner.__module__
        if function.__globals__["__name__"].partition(".")[0] not in packages:
            return False
        function = function.__wrapped__
    return False


def _report(outcomes: dict[PatchedMethod, str]) -> InstallReport:
    def named(wanted: str) -> tuple[str, ...]:
        return tuple(method.name for method, outcome in outcomes.items() if outcome == wanted)

    return InstallReport(
        installed=named(INSTALLED),
        pending=named(PENDING),
        refused=tuple(
            Refused(method.name, outcome, reasons.REASONS[outcome])
            for method, outcome in outcomes.items()
            if outcome in reasons.REASONS
        ),
    )


_installer = _Installer()


def install(
    generated: str | Path = "fusegen.generated", *, strict: bool = False, fuse: str | None = None
) -> InstallReport:
    """Patches the classes of a generated tree, at once or when their modules are imported. Idempotent.

    Args:
        generated: the name of an importable package, or the `Path` of a directory. Replaces an earlier tree.
        strict: a refusal that can be known now raises, and nothing is patched.
        fuse: when to fuse (see `policy`); None leaves that choice as it is.

    Raises:
        InstallError: under `strict`, if a method is refused.
        ModuleNotFoundError, FileNotFoundError: no such tree, or transformers is not installed.
        ValueError: a manifest of another schema, or a policy that does not exist.
    """
    chosen = fuse and checked_choice(fuse, "fuse")
    report = _installer.install(read_tree(generated), strict)
    if chosen:
        policy.set(chosen)
    return report


def uninstall() -> None:
    """Puts every original method back, stops watching imports, and drops the policy that `install` was given."""
    _installer.uninstall()
    policy.set(None)
