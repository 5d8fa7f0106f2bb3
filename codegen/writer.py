"""Bring a folder to the state of an emission: the one place that writes generated files.

A file is replaced only if fusegen wrote it and nobody edited it since (the manifest holds the hash of each); what
fusegen wrote and no longer wants is removed; whatever else lies in the folder stays. The new tree is made whole
beside the folder and swapped with it in one step, so that an interrupted run leaves the old tree. Where the system
cannot swap, files are replaced one by one, each in one step, the manifest last, and an error undoes what was done.
Nothing waits for the disk: what a power cut spoils is generated again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusegen.codegen.diffs import file_diff
from fusegen.codegen.manifest import MANIFEST, verified_entries
from fusegen.codegen.paths import why_not_a_tree, why_not_below
from fusegen.codegen.swap import alone_in, swap


class WriteError(Exception):
    """A folder that must not or cannot be written to as it is; the message says which file and what to do."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Paths relative to the folder: to be written (new or different) and to be removed."""

    written: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.written or self.removed)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest that an earlier run left in a folder, None if there is none. Raises `WriteError`."""
    place = folder / MANIFEST
    try:
        manifest = json.loads(place.read_text(encoding="utf-8"))
        paths = [str(path) for path, _ in manifest["files"].items()]
        verified_entries(manifest)
        if not isinstance(manifest["classes"], list) or not all(isinstance(each, dict) for each in manifest["classes"]):
            raise ValueError("classes are no list of entries")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        detail = "Remove it or choose another --out."
        raise WriteError(f"{place}: not a manifest of fusegen ({error!r}). {detail}") from error
    if any(map(why_not_below, paths)):
        raise WriteError(f"{place}: names files outside of its folder. Remove it or choose another --out.")
    return dict(manifest)


def compare(folder: Path, files: dict[str, str]) -> Changes:
    """What `write` would do. Raises `WriteError` where it would refuse to."""
    if folder.exists() and not folder.is_dir():
        raise WriteError(f"{folder}: is a file. Choose another --out.")
    if wrong := why_not_a_tree(files):
        raise WriteError(f"{folder}: {wrong[0]!r} cannot be written there: {wrong[1]}. Rename it in the source.")
    known = _known_files(folder)
    written: list[str] = []
    for path, text in files.items():
        place = folder / path
        _assert_folders(folder, path)
        if not os.path.lexists(place):
            written.append(path)
        elif not place.is_file() or place.read_bytes() != text.encode():
            _assert_ours(folder, path, known)
            written.append(path)
    removed = [path for path in known if path not in files and (folder / path).exists()]
    for path in removed:
        _assert_folders(folder, path)
        _assert_ours(folder, path, known)
    if not known:
        _assert_no_others(folder)
    return Changes(tuple(written), tuple(removed))


def differences(folder: Path, files: dict[str, str], changes: Changes) -> str:
    """Changes that `compare` found, as a unified diff with paths relative to the folder."""
    return "".join(
        file_diff(path, _text(folder / path), files.get(path)) for path in sorted((*changes.written, *changes.removed))
    )


def write(
    folder: Path, files: dict[str, str], allowed: Callable[[dict[str, Any] | None], None] | None = None
) -> Changes:
    """Make `folder` hold `files`. Raises `WriteError`; the folder is then as it was.

    `allowed` gets the manifest that is replaced, while no other process writes here, and raises if it must stay.
    """
    target = _resolved(folder)
    if not target.name:
        raise WriteError(f"{folder}: is the root of the file system. Choose another --out.")
    fresh = target.with_name(f".{target.name}.fusegen")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone_in(target.parent):
            if fresh.exists():
                # Nobody else is writing here: a run was killed.
                shutil.rmtree(fresh)
            if allowed is not None:
                allowed(read_manifest(folder))
            changes = compare(folder, files)
            if changes:
                _replace(target, fresh, files, changes)
            return changes
    except OSError as error:
        place = error.filename or folder
        raise WriteError(f"cannot write {folder}: {error.strerror or error} ({place}). It is as it was.") from error


def assert_apart(folder: Path, source: Path) -> None:
    """Raises `WriteError` if a folder to be written lies in a source tree, or the tree in the folder."""
    folder, source = _resolved(folder), source.resolve()
    if folder.is_relative_to(source) or source.is_relative_to(folder):
        raise WriteError(f"{folder}: overlaps the source tree {source}. Choose another --out.")


def _resolved(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, RuntimeError) as error:
        raise WriteError(f"{folder}: cannot be followed ({error}). Choose another --out.") from error


def _replace(target: Path, fresh: Path, files: dict[str, str], changes: Changes) -> None:
    """Stages the whole new tree as `fresh`, and puts it in the place of the old one."""
    try:
        fresh.mkdir()
        if target.exists():
            if not os.access(target, os.W_OK):
                raise WriteError(f"{target}: is read-only. Make it writable or choose another --out.")
            shutil.copymode(target, fresh)
            _carry_over(target, fresh, leave_out={*changes.written, *changes.removed})
        for path in changes.written:
            place = fresh / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(files[path].encode())
        if not target.exists():
            fresh.rename(target)
        elif _is_in_use(target) or not swap(fresh, target):
            _replace_each(target, fresh, changes)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _carry_over(old: Path, fresh: Path, leave_out: set[str]) -> None:
    """Puts every other file of the old tree into the new one as well: the same file where the system has hard links."""
    for folder, folders, names in os.walk(old, onerror=_fail):
        inside = Path(folder).relative_to(old)
        empty = not (folders or names)
        links = [name for name in folders if (old / inside / name).is_symlink()]
        folders[:] = [name for name in folders if name != "__pycache__" and name not in links]
        staying = [name for name in (*names, *links) if (inside / name).as_posix() not in leave_out]
        if staying or empty:
            (fresh / inside).mkdir(parents=True, exist_ok=True)
        for name in staying:
            try:
                os.link(old / inside / name, fresh / inside / name, follow_symlinks=False)
            except (OSError, NotImplementedError):
                shutil.copy2(old / inside / name, fresh / inside / name, follow_symlinks=False)


def _fail(error: OSError) -> None:
    raise error


def _is_in_use(folder: Path) -> bool:
    """Whether this process (and so, likely, a shell) stands in a folder, which would vanish beneath it."""
    try:
        return Path.cwd().is_relative_to(folder)
    except FileNotFoundError:
        return False


def _replace_each(target: Path, fresh: Path, changes: Changes) -> None:
    """Moves the changed files from `fresh` into `target` one by one, the manifest last; an error undoes it."""
    changed = sorted(changes.written, key=lambda path: path == MANIFEST)
    before = {path: _content(target / path) for path in (*changed, *changes.removed)}
    try:
        for path in changed:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (fresh / path).replace(target / path)
        for path in changes.removed:
            (target / path).unlink()
    except BaseException:
        for path, content in before.items():
            if content is None:
                (target / path).unlink(missing_ok=True)
            else:
                (target / path).write_bytes(content)
        raise
    finally:
        for path in before:
            _drop_empty(target / path, target)


def _drop_empty(place: Path, root: Path) -> None:
    """Removes the folders between a file and the root that hold nothing but what Python compiled."""
    for folder in place.parents:
        if folder == root or not folder.exists() or any(name != "__pycache__" for name in os.listdir(folder)):
            return
        shutil.rmtree(folder)


def _content(place: Path) -> bytes | None:
    return place.read_bytes() if place.exists() else None


def _text(place: Path) -> str | None:
    content = _content(place)
    return None if content is None else content.decode("utf-8", "replace")


def _known_files(folder: Path) -> dict[str, str]:
    """Files that an earlier run wrote, by path, with the hash of what it wrote; empty for a new folder."""
    manifest = read_manifest(folder)
    return dict(manifest["files"]) if manifest else {}


def _assert_ours(folder: Path, path: str, known: dict[str, str]) -> None:
    if path == MANIFEST and known:
        return
    if path not in known or (folder / path).is_symlink() or not (folder / path).is_file():
        raise WriteError(f"{folder / path}: was not written by fusegen. Move it away or choose another --out.")
    if hashlib.sha256((folder / path).read_bytes()).hexdigest() != known[path]:
        raise WriteError(f"{folder / path}: was edited since fusegen wrote it. Remove it to have it generated again.")


def _assert_folders(folder: Path, path: str) -> None:
    """The folders above a wanted file are folders, or not there."""
    for parent in (folder / path).relative_to(folder).parents:
        place = folder / parent
        if place != folder and (place.is_symlink() or (place.exists() and not place.is_dir())):
            raise WriteError(f"{place}: was not written by fusegen. Move it away or choose another --out.")


def _assert_no_others(folder: Path) -> None:
    """A folder without a manifest is empty but for hidden files: nothing of a person's becomes part of a new tree."""
    for place in sorted(_entries(folder)):
        if not (place.name.startswith(".") and place.is_file()):
            raise WriteError(
                f"{place}: was not written by fusegen, and {folder} has no {MANIFEST}. "
                "Move it away or choose a new or empty folder as --out."
            )


def _entries(folder: Path) -> Iterator[Path]:
    if folder.exists():
        yield from folder.iterdir()
