"""Fused bodies for modules as they are imported here, generated in memory: nothing is read but their source.

This is the one door from the runtime half to the static one, and it opens on first use. The text of a generated
module is kept where `inspect.getsource`, tracebacks and debuggers look for one that has no file.
"""

from __future__ import annotations

import hashlib
import linecache
import logging
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fusegen.runtime import stock_losses
from fusegen.runtime.generated_text import generated_function
from fusegen.runtime.manifest import installed_version
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

    `sha256` is the hash of the source that they were made from, `text` what was generated from it.
    """

    sha256: str = ""
    text: str | None = None
    bodies: tuple[Body, ...] = ()
    refused: tuple[Refused, ...] = ()
    unmatched: tuple[Refused, ...] = ()


_known: dict[str, Generated] = {}
_lock = threading.Lock()


def generated(module: ModuleType) -> Generated:
    """What fusegen makes of a module. Made once for each text; a bug in fusegen is a refusal here, and logged."""
    name, file = module.__name__, getattr(module, "__file__", None)
    if file is None or not Path(file).is_file():
        return Generated(refused=(refused(name, UNREADABLE, "it has no file"),))
    content = Path(file).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    known = _known.get(name)
    if known is None or known.sha256 != digest:
        try:
            known = _generate(module, content, digest)
        except Exception as error:
            logger.exception("no forward could be generated for %s", name)
            return Generated(digest, refused=(refused(name, UNREADABLE, f"{type(error).__name__}: {error}"),))
        with _lock:
            _known[name] = known
    return known


def _generate(module: ModuleType, content: bytes, digest: str) -> Generated:
    name, spelled = module.__name__, _spelled(module)
    emission = _emitted(spelled, content)
    unmatched = tuple(
        Refused(f"{name}.{each.class_name}.{each.method}", each.code, each.reason) for each in emission.unmatched
    )
    failures = tuple(refused(name, UNREADABLE, f"{each.message} (line {each.line})") for each in emission.failures)
    if emission.text is None:
        return Generated(digest, refused=failures, unmatched=unmatched)
    file = _shown(f"{PREFIX}/{name.replace('.', '/')}.py", emission.text)
    bodies = tuple(
        Body(
            name,
            site.class_name,
            site.method,
            generated_function(emission.text, file, f"{PREFIX}.{name}", spelled, site.class_name, site.method),
            IN_MEMORY,
        )
        for site in emission.sites
    )
    return Generated(digest, emission.text, bodies, failures, unmatched)


def _shown(path: str, text: str) -> str:
    """The name of a file that does not exist, under which `text` is shown; nobody looks for it on the disk."""
    file = f"<{path}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    return file


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


def _spelled(module: ModuleType) -> str:
    """The name of a module in a statement that imports it: those of remote code hold hashes that start with digits."""
    package, _, inside = module.__name__.partition(".")
    if all(part.isidentifier() for part in inside.split(".")) or not inside:
        return module.__name__
    return f"{package}._{re.sub(r'[^0-9a-zA-Z]', '_', inside)}"
