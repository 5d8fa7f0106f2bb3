"""Wheels and sdists read in place: names, and members up to a size, never unpacked to disk.

One handle per process is kept open for each archive. A forked worker must not share the file offset of
its parent, so the handle is looked up by process id as well. Sizes are bounded by what an archive says of
itself, before anything is unpacked.
"""

from __future__ import annotations

import base64
import bz2
import csv
import gzip
import hashlib
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, cast

from fusegen.codegen.decoding import MAX_FILE_BYTES
from fusegen.codegen.paths import why_not_below
from fusegen.codegen.records import Failure

# A whole release is a fifth of this.
MAX_ARCHIVE_BYTES = 1024 * 1024 * 1024

_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


class ArchiveError(Exception):
    """An archive or a member that cannot be read, as a phrase that completes `cannot read X: …`."""


class WheelArchive:
    """A zip file. Where its RECORD names the hash of a member, the member must have it."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        members = self._zip.infolist()
        _assert_bounded(sum(member.file_size for member in members))
        _assert_below(member.orig_filename for member in members)
        self._irregular = tuple(member.filename for member in members if not _is_plain(member))

    def names(self) -> tuple[str, ...]:
        return tuple(self._zip.namelist())

    def irregular(self) -> tuple[str, ...]:
        """The members that are neither files nor folders: links, mostly."""
        return self._irregular

    def problems(self) -> tuple[Failure, ...]:
        return self._record[1]

    def read(self, name: str) -> bytes | None:
        try:
            content = self._read(name)
        except KeyError:
            return None
        wanted = self._record[0].get(name)
        if wanted is not None and _spelled_hash(content) != wanted:
            raise ArchiveError("it was changed after the wheel was built (its hash is not the one in RECORD)")
        return content

    def _read(self, name: str) -> bytes:
        member = self._zip.getinfo(name)
        if member.flag_bits & 1:
            raise ArchiveError("the member is encrypted")
        try:
            with self._zip.open(member) as stream:
                return _bounded(stream.read(MAX_FILE_BYTES + 1))
        except _DAMAGE as error:
            raise ArchiveError(f"the member is damaged ({error})") from error

    @cached_property
    def _record(self) -> tuple[dict[str, str], tuple[Failure, ...]]:
        """Hashes by member, and a failure if there is a RECORD that cannot be read."""
        name = next((name for name in self._zip.namelist() if name.endswith(".dist-info/RECORD")), None)
        if name is None:
            return {}, ()
        try:
            rows = list(csv.reader(self._read(name).decode("utf-8").splitlines()))
            hashes = {row[0]: row[1].removeprefix("sha256=") for row in rows if row and row[1].startswith("sha256=")}
        except (ArchiveError, ValueError, IndexError, csv.Error) as error:
            return {}, (Failure(name, 0, f"members are not compared with RECORD, since it cannot be read: {error}"),)
        return hashes, ()


class SdistArchive:
    """A compressed tar file. It has no index, so one pass keeps every Python file below `models/` and `loss/`.

    One that ends too early gives what stands before its end, and a problem of all that may follow: of `models/`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: list[str] = []
        self._irregular: list[str] = []
        self._kept: dict[str, bytes] = {}
        self._problems: tuple[Failure, ...] = ()
        try:
            for name, member, archive in self._members():
                if name.endswith(".py") and ("/loss/" in name or "/modeling_" in name or name.count("/") <= 3):
                    self._kept[name] = self._extract(member, archive)
                self._names.append(name)
        except ArchiveError:
            raise
        except _DAMAGE as error:
            if not self._names:
                raise
            message = f"{path.name} is damaged after {self._names[-1]} ({error}): what follows was not read"
            self._problems = (Failure("models", 0, message),)

    def names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def irregular(self) -> tuple[str, ...]:
        """The members that are neither files nor folders: links, devices, pipes."""
        return tuple(self._irregular)

    def problems(self) -> tuple[Failure, ...]:
        return self._problems

    def read(self, name: str) -> bytes | None:
        if name in self._kept:
            return _bounded(self._kept[name])
        if name not in self._names:
            return None
        try:
            return next(_bounded(self._extract(member, archive)) for n, member, archive in self._members() if n == name)
        except _DAMAGE as error:
            raise ArchiveError(f"the archive is damaged ({error})") from error

    def _members(self) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
        size = 0
        with _unpacked(self._path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                size += member.size
                _assert_bounded(size)
                _assert_below((member.name,))
                if member.isfile():
                    yield member.name, member, archive
                elif not member.isdir():
                    self._irregular.append(member.name)

    def _extract(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> bytes:
        stream = archive.extractfile(member)
        return stream.read(MAX_FILE_BYTES + 1) if stream else b""


def open_archive(path: Path) -> WheelArchive | SdistArchive:
    """The archive at `path`; raises `ArchiveError` if it is neither a zip nor a tar file, or unpacks to too much."""
    return _open(path, os.getpid())


@lru_cache(maxsize=4)
def _open(path: Path, process: int) -> WheelArchive | SdistArchive:
    try:
        if zipfile.is_zipfile(path):
            return WheelArchive(path)
        return SdistArchive(path)
    except gzip.BadGzipFile as error:
        raise ArchiveError(f"it is not a whole zip or tar archive ({error})") from error
    except OSError as error:
        raise ArchiveError(error.strerror or str(error)) from error
    except _DAMAGE as error:
        # What each way to unpack a tar file says is no news.
        said = "" if isinstance(error, tarfile.ReadError) else f" ({error})"
        raise ArchiveError(f"it is not a whole zip or tar archive{said}") from error


def _spelled_hash(content: bytes) -> str:
    """A hash as RECORD spells it: base64 for URLs, without the equals signs at its end."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


class _Bounded(io.BufferedIOBase):
    """A stream that gives no more at once than a source file may hold: tarfile reads headers of any length whole."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > MAX_FILE_BYTES + tarfile.BLOCKSIZE:
            raise ArchiveError("a header in it is longer than a source file may be")
        return self._stream.read(size)

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        _assert_bounded(offset)
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        self._stream.close()
        super().close()


def _unpacked(path: Path) -> _Bounded:
    """The tar file that a compressed file holds, or the file itself."""
    with path.open("rb") as file:
        start = file.read(6)
    openers = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
    for mark, opener in openers.items():
        if start.startswith(mark):
            return _Bounded(cast(IO[bytes], opener(path, "rb")))
    return _Bounded(path.open("rb"))


def _assert_bounded(size: int) -> None:
    if size > MAX_ARCHIVE_BYTES:
        limit = f"{MAX_ARCHIVE_BYTES // 2**30} GB"
        raise ArchiveError(f"it says that it unpacks to more than {limit}, which no release does")


def _assert_below(names: Iterable[str]) -> None:
    """What a system would unpack elsewhere than in the folder that it is told is no archive of a release."""
    for name in names:
        # `./` before a name, and `/` behind that of a folder, are how some programs spell it.
        plain = "/".join(part for part in name.split("/") if part not in ("", "."))
        if why := why_not_below(name if name.startswith("/") else plain or name):
            raise ArchiveError(f"the member {name!r} would not stay in its folder: {why}")


def _is_plain(member: zipfile.ZipInfo) -> bool:
    """Whether a member of a zip file is a file or a folder, as far as the system that wrote it says."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    return kind in (0, stat.S_IFREG, stat.S_IFDIR)


def _bounded(content: bytes) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        raise ArchiveError(f"the member unpacks to more than {MAX_FILE_BYTES // 2**20} MB, which no source file does")
    return content
