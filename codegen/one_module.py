"""The generated text of one module that is not read from a tree: of what a process has imported.

    emit_module("transformers_modules.acme.modeling_acme", source, ...)   ->  the text of its fused forwards

It takes the way of `emit` for one file; nothing is written, and no report on it is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from fusegen.codegen.emit import FileEmitter
from fusegen.codegen.losses import loss_mapping
from fusegen.codegen.manifest import not_emitted_entry
from fusegen.codegen.records import REJECT, Failure, Site


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A loss over a vocabulary that is not fused: where it is computed, and why it is left."""

    class_name: str
    method: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModuleEmission:
    """What one module yields; `text` holds the forwards of `sites` and is None where nothing can be fused."""

    text: str | None
    sites: tuple[Site, ...]
    unmatched: tuple[Unmatched, ...]
    failures: tuple[Failure, ...]


def emit_module(
    name: str, content: bytes, version: str, *, source_version: str | None, loss_utils: bytes | None
) -> ModuleEmission:
    """Generate forwards for the module that is imported as `name`.

    Args:
        content: the bytes of its file.
        version: fusegen's own.
        source_version: that of the package that the module belongs to.
        loss_utils: the installed loss/loss_utils.py of transformers, which says what `self.loss_function` is.
    """
    package, inside = name.split(".", 1) if "." in name else ("", name)
    path = f"{inside.replace('.', '/')}.py"
    outcome = FileEmitter(version)(
        _OneFile(package, source_version, path, content), path, loss_mapping(loss_utils).names
    )
    places = {site.id: site for site in outcome.report.sites}
    not_emitted = [
        Unmatched(places[each.site].class_name, places[each.site].method, each.code, not_emitted_entry(each)["reason"])
        for each in outcome.not_emitted
    ]
    rejected = [
        Unmatched(site.class_name, site.method, site.code or "", site.reason or "")
        for site in outcome.report.sites
        if site.verdict == REJECT
    ]
    return ModuleEmission(outcome.text, outcome.sites, (*rejected, *not_emitted), outcome.failures)


@dataclass(frozen=True, slots=True)
class _OneFile:
    """A package of which one file is known, which this Python has imported."""

    package: str
    version: str | None
    path: str
    content: bytes

    def read(self, path: str) -> bytes | None:
        return self.content if path == self.path else None

    def is_compiled(self, path: str) -> bool:
        return True
