"""Puts generated forwards on the original classes or on one model, and takes them off again.

    install()              LlamaForCausalLM.forward = the generated one, for every class that has one
    install(model)         model.forward = the generated one, for this model and the modules in it
    with fused(model):     the same for a block
    uninstall()            every original function object back in its place

The classes stay what they are (name, signature, `architectures` in a checkpoint), and it does not
matter whether models exist already. Modules that are not imported yet are patched when they are.
A class that somebody else has patched is left alone (FG502); a generated forward whose source is not
the one installed is generated anew from that, or left alone under `strict` (FG501).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from packaging.version import Version
from torch import nn

from fusegen.contract.package import OLDEST_TRANSFORMERS
from fusegen.runtime.bodies import Bodies
from fusegen.runtime.instances import instances
from fusegen.runtime.manifest import installed_folder, installed_version, read_tree
from fusegen.runtime.outcomes import InstallError, InstallReport
from fusegen.runtime.policy import policy
from fusegen.runtime.process import installer
from fusegen.runtime.stock_losses import unknown_losses
from fusegen.runtime.swaps import swaps

logger = logging.getLogger("fusegen")


def install(
    target: str | Path | nn.Module | None = None, *, strict: bool = False, fuse: str | None = None
) -> InstallReport:
    """Patches the classes of the process, at once or when their modules are imported; or one model. Idempotent.

    Args:
        target: a model: it and the modules in it are patched, and no other instance, from whatever module its
            class is (`trust_remote_code`). A directory or the name of an importable package: the generated
            tree whose classes are patched, in the place of an earlier one. None: the tree that ships with
            fusegen; for what is installed in another version, forwards are generated in memory.
        strict: use only forwards that are verified for the installed version. What is refused and loaded by
            now raises, and so does a tree of which nothing is left: then nothing is patched. A module that is
            imported later, with a class in it that is refused, raises where it is imported, and is not.
        fuse: when to fuse (see `policy`), for the process; None leaves that choice as it is, or what FUSEGEN_FUSE
            says now where none was made.

    Raises:
        InstallError: under `strict`, if a loaded method is refused, the stock losses are not those that are
            known, or nothing can be patched.
        ModuleNotFoundError, FileNotFoundError: no such tree, or transformers is not installed.
        ImportError: transformers is older than any that is supported.
        TypeError: a target of another kind, e.g. the class of a model.
        ValueError: a manifest of another schema, or a policy that does not exist, in FUSEGEN_FUSE too.
    """
    policy.foreseen(fuse)
    _assert_supported()
    if strict and (unknown := unknown_losses()):
        raise InstallError(InstallReport({}, refused=tuple(unknown)))
    if isinstance(target, nn.Module):
        report = instances.install(target, Bodies.of(read_tree(), strict))
    else:
        report = installer.install(read_tree(target), strict)
    policy.settle(fuse)
    return report


def uninstall(model: nn.Module | None = None) -> None:
    """Takes the patches off one model; without one, everything is as it was before the first `install`.

    That is: every original method is back on its class and off every instance, imports are not watched any
    more, and the policy that `install` was given is dropped. A model whose class is patched stays so, with a warning.
    """
    instances.uninstall(model)
    if model is None:
        installer.uninstall()
        policy.set(None)
    elif patched := {cls for module in model.modules() for cls in type(module).__mro__} & swaps.owners():
        names = ", ".join(sorted(cls.__qualname__ for cls in patched))
        logger.warning("%s stays patched for all models: uninstall() without a model takes that off", names)


@contextmanager
def fused(model: nn.Module | None = None, *, fuse: str | None = None) -> Iterator[None]:
    """A block in which a model is patched, or in which `fuse` decides, in this thread.

        with fused(model): trainer.train()
        with fused(): loss = model(**batch).loss

    Args:
        model: patched for the block, but for modules that are already; None changes no model.
        fuse: when to fuse (see `policy`); None is `always` without a model, and leaves the choice with one.

    Raises:
        TypeError: no model.
        ValueError: a policy that does not exist.
    """
    if not isinstance(model, nn.Module | None):
        raise TypeError(f"model: expected a model, got {model!r}; when to fuse is said by fuse=")
    choice = fuse or (None if model is not None else "always")
    with policy.override(choice) if choice else nullcontext():
        if model is None:
            yield
            return
        before = instances.patched(model)
        install(model)
        try:
            yield
        finally:
            instances.uninstall(model, keep=before)


def _assert_supported() -> None:
    installed_folder("transformers")
    version = installed_version("transformers")
    if version is not None and Version(version) < Version(OLDEST_TRANSFORMERS):
        raise ImportError(
            f"transformers {version} is older than {OLDEST_TRANSFORMERS}, the oldest release that fusegen patches; "
            "nothing was patched. Upgrade it: pip install -U transformers"
        )
