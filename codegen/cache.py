"""What was found in a file, or generated from it, kept on disk under the hash of its content and the rules.

One text file per kind and rules: a header, then one line `digest TAB path TAB json` for each record. Lines
are parsed only when asked for, so entries of other trees cost next to nothing. The path is part of the key
since ids are made of it. A cache that is missing, damaged or foreign is an empty cache and a line in the
log, never an error.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from fusegen.codegen.records import to_json

MAX_ENTRIES = 5000
MAX_FILES = 3

_HEADER = "fusegen cache 1"
_log = logging.getLogger("fusegen.cache")

Record = TypeVar("Record")


def cache_directory() -> Path:
    """`FUSEGEN_CACHE_DIR` if set, else the platform's cache directory of the user."""
    chosen = os.environ.get("FUSEGEN_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("fusegen", appauthor=False))


def digest(content: bytes) -> str:
    """The hash of a file's content under which its record is kept."""
    return hashlib.sha256(content, usedforsecurity=False).hexdigest()


def code_fingerprint() -> str:
    """A hash of all text of codegen and templates that can change a record: an edited rule empties the cache."""
    root = Path(__file__).parents[1]
    total = hashlib.sha256(usedforsecurity=False)
    for path in sorted([*(root / "codegen").rglob("*.py"), *(root / "templates").glob("*.j2")]):
        if path.parent.name != "report":
            total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


class Cache(Generic[Record]):
    """Records of earlier runs with the same rules. Use `Cache.open`; nothing is written before `save`."""

    def __init__(
        self, file: Path, rules: str, entries: dict[tuple[str, str], str], decode: Callable[[dict[str, Any]], Record]
    ) -> None:
        self._file = file
        self._rules = rules
        self._entries = entries
        self._decode = decode
        self._used: dict[tuple[str, str], str] = {}
        self._changed = False

    @classmethod
    def open(cls, directory: Path, kind: str, rules: str, decode: Callable[[dict[str, Any]], Record]) -> Cache[Record]:
        """The cache for `kind` and `rules` in `directory`; empty if there is none that can be read.

        `decode` is the inverse of `to_json` for what is kept.
        """
        name = hashlib.sha256(rules.encode(), usedforsecurity=False).hexdigest()[:16]
        file = directory / f"{kind}-{name}.cache"
        return cls(file, rules, _load(file, rules), decode)

    def get(self, path: str, digest: str) -> Record | None:
        """The record of the file at `path` with this content, if an earlier run kept one."""
        line = self._entries.get((path, digest))
        if line is None:
            return None
        try:
            record = self._decode(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            _log.warning("ignored a damaged entry for %s in %s: %s", path, self._file, error)
            del self._entries[path, digest]
            return None
        self._used[path, digest] = line
        return record

    def put(self, path: str, digest: str, record: Record) -> None:
        """Keeps the record of the file at `path` with this content."""
        line = json.dumps(to_json(record), ensure_ascii=True, separators=(",", ":"))
        self._entries[path, digest] = self._used[path, digest] = line
        self._changed = True

    def save(self) -> None:
        """Writes the cache in one step, if anything was put. What this run used comes first and is always kept.

        Failing to write is a line in the log: the run has its result already.
        """
        if not self._changed:
            return
        rest = {key: line for key, line in self._entries.items() if key not in self._used}
        kept = self._used | dict(list(rest.items())[: max(0, MAX_ENTRIES - len(self._used))])
        lines = [f"{_HEADER}\t{self._rules}", *(f"{digest}\t{path}\t{line}" for (path, digest), line in kept.items())]
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            _replace(self._file, "\n".join(lines) + "\n")
            _drop_old_files(self._file)
        except OSError as error:
            _log.warning("cannot write the cache %s: %s", self._file, error)
            return
        self._changed = False


def _load(file: Path, rules: str) -> dict[tuple[str, str], str]:
    try:
        header, *lines = file.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        _log.warning("ignored the cache %s: %s", file, error)
        return {}
    if header != f"{_HEADER}\t{rules}":
        _log.warning("ignored the cache %s: it was not written by these rules", file)
        return {}
    entries = {}
    for line in lines:
        digest, _, rest = line.partition("\t")
        path, tab, record = rest.partition("\t")
        if tab:
            entries[path, digest] = record
    return entries


def _replace(file: Path, text: str) -> None:
    handle, fresh = tempfile.mkstemp(dir=file.parent, prefix=file.stem, suffix=".tmp")
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        os.replace(fresh, file)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


def _drop_old_files(newest: Path) -> None:
    kind = newest.name.partition("-")[0]
    files = sorted(newest.parent.glob(f"{kind}-*.cache"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[MAX_FILES:]:
        if path != newest:
            path.unlink(missing_ok=True)
