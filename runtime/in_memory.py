"""Fused bodies for modules as they are imported here, generated in memory: nothing is read but their source.

This is the one door from the runtime half to the static one, and it opens on first use. A generated module
is a module with a loader of its own, so that `inspect.getsource`, tracebacks and debuggers show its text.
"""

from __future__ import annotations

import hashlib
import linecache
import logging
import re
import sys
import threading
from dataclasses import dataclass
from importlib.abc import ExecutionLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fusegen.runtime import stock_losses
from fusegen.runtime.manifest import installed_version
from fusegen.runtime.original_class import mirrors
from fusegen.runtime.outcomes import IN_MEMORY, Body, Refused, refused
from fusegen.runtime.reasons import UNREADABLE
from fusegen.runtime.syntax import PARSING

if TYPE_CHECKING:
    from fusegen.codegen.one_module import ModuleEmission

logger = logging.getLogger("fusegen")

PREFIX = "fusegen_in_memory"


@dataclass(frozen=True, slots=True)
class Generated:
    """What one module yields: its fused bodies, why others cannot be made, and the losses that are not fused.

    `sha256` is the hash of the source that they were made from, `made` the module that holds them: its names are those
    that the original had then.
    """

    sha256: str = ""
    made: ModuleType | None = None
    bodies: tuple[Body, ...] = ()
    refused: tuple[Refused, ...] = ()
    unmatched: tuple[Refused, ...] = ()


_known: dict[str, Generated] = {}
_lock = threading.Lock()


def generated(module: ModuleType) -> Generated:
    """What fusegen makes of a module. Made once for each execution; a bug in fusegen is a refusal here, and logged."""
    name, file = module.__name__, getattr(module, "__file__", None)
    if file is None or not Path(file).is_file():
        return Generated(refused=(refused(name, UNREADABLE, "it has no file"),))
    content = Path(file).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    known = _known.get(name)
    if known is None or not _is_of(known, module, digest):
        try:
            known = _generate(module, content, digest)
        except Exception as error:
            logger.exception("no forward could be generated for %s", name)
            return Generated(digest, refused=(refused(name, UNREADABLE, f"{type(error).__name__}: {error}"),))
        with _lock:
            _known[name] = known
    return known


def _is_of(known: Generated, module: ModuleType, digest: str) -> bool:
    return known.sha256 == digest and (known.made is None or mirrors(known.made, module))


def _generate(module: ModuleType, content: bytes, digest: str) -> Generated:
    name = module.__name__
    emission = _emitted(_importable(module), content)
    unmatched = tuple(
        Refused(f"{name}.{each.class_name}.{each.method}", each.code, each.reason) for each in emission.unmatched
    )
    failures = tuple(refused(name, UNREADABLE, f"{each.message} (line {each.line})") for each in emission.failures)
    if emission.text is None:
        return Generated(digest, refused=failures, unmatched=unmatched)
    made = _loaded(name, emission.text)
    bodies = tuple(
        Body(name, site.class_name, site.method, vars(getattr(made, site.class_name))[site.method], IN_MEMORY)
        for site in emission.sites
    )
    return Generated(digest, made, bodies, failures, unmatched)


def _emitted(name: str, content: bytes) -> ModuleEmission:
    from fusegen.codegen.one_module import emit_module

    with PARSING:
        return emit_module(
            name,
            content,
            installed_version("fusegen") or "unknown",
            source_version=installed_version(name.partition(".")[0]),
            loss_utils=stock_losses.installed_source(),
        )


def _importable(module: ModuleType) -> str:
    """A name under which a statement can import a module: those of remote code hold hashes that start with digits."""
    package, _, inside = module.__name__.partition(".")
    if all(part.isidentifier() for part in inside.split(".")) or not inside:
        return module.__name__
    alias = f"{package}._{re.sub(r'[^0-9a-zA-Z]', '_', inside)}"
    sys.modules[alias] = module
    return alias


def _loaded(name: str, text: str) -> ModuleType:
    loader = _TextLoader(f"{PREFIX}/{name.replace('.', '/')}.py", text)
    spec = spec_from_loader(f"{PREFIX}.{name}", loader)
    assert spec is not None
    module, before = module_from_spec(spec), sys.modules.get(spec.name)
    # What was shown for this name until now is another text, and decorators may ask for this one while it runs.
    linecache.cache.pop(loader.file, None)
    sys.modules[spec.name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(spec.name)
        if before is not None:
            sys.modules[spec.name] = before
        raise
    return module


class _TextLoader(ExecutionLoader):
    """Executes a text and hands it out; the file that it names does not exist."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text

    def get_filename(self, fullname: str) -> str:
        return self.file

    def get_source(self, fullname: str) -> str:
        return self.text
