"""Wheels and sdists read in place: names, and members up to a size, never unpacked to disk.

One handle per process is kept open for each archive. A forked worker must not share the file offset of
its parent, so the handle is looked up by process id as well.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

MAX_MEMBER_BYTES = 16 * 1024 * 1024


class ArchiveError(Exception):
    """An archive or a member that cannot be read, as a phrase that completes `cannot read X: …`."""


class WheelArchive:
    """A zip file."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)

    def names(self) -> tuple[str, ...]:
        return tuple(self._zip.namelist())

    def read(self, name: str) -> bytes | None:
        try:
            with self._zip.open(name) as member:
                return _bounded(member.read(MAX_MEMBER_BYTES + 1))
        except KeyError:
            return None
        except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, RuntimeError) as error:
            raise ArchiveError(f"the member is damaged ({error})") from error


class SdistArchive:
    """A compressed tar file. It has no index, so one pass keeps every Python file below `models/` and `loss/`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: list[str] = []
        self._kept: dict[str, bytes] = {}
        for name, member, archive in self._members():
            self._names.append(name)
            if name.endswith(".py") and ("/loss/" in name or "/modeling_" in name or name.count("/") <= 3):
                self._kept[name] = self._extract(member, archive)

    def names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def read(self, name: str) -> bytes | None:
        if name in self._kept:
            return _bounded(self._kept[name])
        if name not in self._names:
            return None
        return next(_bounded(self._extract(member, archive)) for n, member, archive in self._members() if n == name)

    def _members(self) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
        with tarfile.open(self._path, "r:*") as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, member, archive

    def _extract(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> bytes:
        stream = archive.extractfile(member)
        return stream.read(MAX_MEMBER_BYTES + 1) if stream else b""


def open_archive(path: Path) -> WheelArchive | SdistArchive:
    """The archive at `path`; raises `ArchiveError` if it is neither a zip nor a tar file."""
    return _open(path, os.getpid())


@lru_cache(maxsize=4)
def _open(path: Path, process: int) -> WheelArchive | SdistArchive:
    try:
        if zipfile.is_zipfile(path):
            return WheelArchive(path)
        return SdistArchive(path)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise ArchiveError(f"it is not a whole zip or tar archive ({error})") from error
    except OSError as error:
        raise ArchiveError(error.strerror or str(error)) from error


def _bounded(content: bytes) -> bytes:
    if len(content) > MAX_MEMBER_BYTES:
        raise ArchiveError(f"the member unpacks to more than {MAX_MEMBER_BYTES // 2**20} MB, which no source file does")
    return content
