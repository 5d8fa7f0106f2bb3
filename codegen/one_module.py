"""The generated text of one module that is not read from a tree: of what a process has imported.

    emit_module("transformers_modules.acme.modeling_acme", source, ...)   ->  the text of its fused forwards

It takes the way of `emit`, file by file; nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fusegen.codegen.emit import emit
from fusegen.codegen.layouts import CLASS, generated_path
from fusegen.codegen.manifest import not_emitted_entry
from fusegen.codegen.records import REJECT, Failure, Site, SourceFile

LOSSES = "loss/loss_utils.py"


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
    losses = {LOSSES: loss_utils} if loss_utils is not None else {}
    emission = emit(_ModuleSource(package, source_version, path, {**losses, path: content}), version, jobs=1)
    places = {site.id: site for site in emission.report.sites}
    not_emitted = [
        Unmatched(places[each.site].class_name, places[each.site].method, each.code, not_emitted_entry(each)["reason"])
        for each in emission.not_emitted
    ]
    rejected = [
        Unmatched(site.class_name, site.method, site.code or "", site.reason or "")
        for site in emission.report.sites
        if site.verdict == REJECT
    ]
    text = emission.files.get(generated_path(CLASS, path))
    return ModuleEmission(text, emission.emitted, (*rejected, *not_emitted), emission.failures)


@dataclass(frozen=True, slots=True)
class _ModuleSource:
    """A source of one modeling file, and of what says what its losses are."""

    package: str
    version: str | None
    path: str
    contents: Mapping[str, bytes]

    @property
    def location(self) -> Path:
        return Path(self.path)

    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def left_out(self) -> tuple[str, ...]:
        return ()

    def problems(self) -> tuple[Failure, ...]:
        return ()

    def read(self, path: str) -> bytes | None:
        return self.contents.get(path)

    def files(self) -> Iterator[SourceFile]:
        yield SourceFile(self.path, self.contents[self.path])
