"""The generated text of one module that is not read from a tree: of what a process has imported.

    emit_module("transformers_modules.acme.modeling_acme", source, ...)   ->  the text of its fused forwards

It takes the way of `emit`, file by file; nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fusegen.codegen.emit import EmittedFile, _Emitter
from fusegen.codegen.losses import loss_mapping
from fusegen.codegen.pipeline import read_path
from fusegen.codegen.reasons import REASONS
from fusegen.codegen.records import REJECT, Failure, SourceFile


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A loss over a vocabulary that is not fused: where it is computed, and why it is left."""

    class_name: str
    method: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModuleEmission:
    """What one module yields; `file` is None where nothing can be fused."""

    file: EmittedFile | None
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
    source = _ModuleSource(package, source_version, f"{inside.replace('.', '/')}.py", content)
    mapping = loss_mapping(loss_utils)
    outcome = _Emitter(version)(source, source.path, mapping)
    report, _, _, _ = read_path(source, source.path, mapping)
    rejected = [
        Unmatched(site.class_name, site.method, site.code or "", site.reason or "")
        for site in report.sites
        if site.verdict == REJECT
    ]
    places = {site.id: site for site in report.sites}
    not_emitted = [
        Unmatched(places[each.site].class_name, places[each.site].method, each.code, _why(each.code, each.detail))
        for each in outcome.not_emitted
    ]
    return ModuleEmission(outcome.file, (*rejected, *not_emitted), outcome.failures)


def _why(code: str, detail: str) -> str:
    return f"{REASONS[code].summary}: {detail}"


@dataclass(frozen=True, slots=True)
class _ModuleSource:
    """A source of one file."""

    package: str
    version: str | None
    path: str
    content: bytes

    @property
    def location(self) -> Path:
        return Path(self.path)

    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def left_out(self) -> tuple[str, ...]:
        return ()

    def read(self, path: str) -> bytes | None:
        return self.content if path == self.path else None

    def files(self) -> Iterator[SourceFile]:
        yield SourceFile(self.path, self.content)
