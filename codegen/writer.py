"""Bring a folder to the state of an emission: the one place that writes generated files.

A file is replaced only if fusegen wrote it and nobody edited it since (the manifest holds the hash of each);
what fusegen wrote and no longer wants is removed. Everything is written beside its place first and renamed
then, the manifest last.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from fusegen.codegen.emit import MANIFEST


class WriteError(Exception):
    """A folder that must not be written to as it is; the message says which file and what to do."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths relative to the folder: to be written (new or different) and to be removed."""

    written: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.written or self.removed)


def compare(folder: Path, files: dict[str, str]) -> Changes:
    """What `write` would do. Raises `WriteError` where it would refuse to."""
    known = _known_files(folder)
    written: list[str] = []
    for path, text in files.items():
        place = folder / path
        if not place.exists():
            written.append(path)
        elif place.read_bytes() != text.encode():
            _assert_ours(folder, path, known)
            written.append(path)
    removed = [path for path in known if path not in files and (folder / path).exists()]
    for path in removed:
        _assert_ours(folder, path, known)
    return Changes(tuple(written), tuple(removed))


def write(folder: Path, files: dict[str, str]) -> Changes:
    """Make `folder` hold `files`. Raises `WriteError` before anything is changed if a person's file is in the way."""
    changes = compare(folder, files)
    staged: list[tuple[Path, Path]] = []
    try:
        for path in sorted(changes.written, key=lambda path: path == MANIFEST):
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            beside = place.with_name(f".{place.name}.fusegen-{os.getpid()}")
            staged.append((beside, place))
            beside.write_bytes(files[path].encode())
        for beside, place in staged:
            os.replace(beside, place)
    finally:
        for beside, _ in staged:
            beside.unlink(missing_ok=True)
    for path in changes.removed:
        place = folder / path
        place.unlink()
        parent = place.parent
        if parent != folder and not any(entry.name != "__pycache__" for entry in parent.iterdir()):
            for compiled in parent.glob("__pycache__/*"):
                compiled.unlink()
            (parent / "__pycache__").rmdir() if (parent / "__pycache__").exists() else None
            parent.rmdir()
    return changes


def _known_files(folder: Path) -> dict[str, str]:
    """Files that an earlier run wrote, by path, with the hash of what it wrote; empty for a new folder."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        return {}
    try:
        known = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        paths = {str(path): str(digest) for path, digest in known.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WriteError(
            f"{manifest}: not a manifest of fusegen ({error}). Remove it or choose another --out."
        ) from error
    if any(Path(path).is_absolute() or ".." in Path(path).parts for path in paths):
        raise WriteError(f"{manifest}: names files outside of its folder. Remove it or choose another --out.")
    return paths


def _assert_ours(folder: Path, path: str, known: dict[str, str]) -> None:
    if path == MANIFEST:
        return
    if path not in known:
        raise WriteError(f"{folder / path}: was not written by fusegen. Move it away or choose another --out.")
    if hashlib.sha256((folder / path).read_bytes()).hexdigest() != known[path]:
        raise WriteError(f"{folder / path}: was edited since fusegen wrote it. Remove it to have it generated again.")
