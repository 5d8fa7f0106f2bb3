"""Where a transformers tree comes from: installed, a directory, a wheel, an sdist, a git revision or a version.

    open_source("installed")                 the transformers that this Python would import (never imported)
    open_source("checkout/")                 a package folder, or a folder that holds transformers/ or src/transformers/
    open_source("transformers-5.5.4-….whl")  read in place, never unpacked to disk
    open_source("checkout@v5.5.4")           a revision of a git repository, without checking it out
    open_source("5.5.4")                     the wheel of that release, downloaded once into the cache directory

A source gives paths cheaply and bytes on request. It can be pickled, so that worker processes read for
themselves. Paths are posix, relative to the package: `models/llama/modeling_llama.py`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fusegen.codegen.byte_code import is_compiled
from fusegen.codegen.decoding import MAX_FILE_BYTES
from fusegen.codegen.listing import MODELING, modeling_files_below
from fusegen.codegen.paths import readable_names
from fusegen.codegen.records import Failure, SourceFile

PACKAGE = "transformers"

# Where the package may lie in what a user names: it may be that itself.
PLACES = ("", f"{PACKAGE}/", f"src/{PACKAGE}/")

_LEFT_OUT = "models/deprecated/"
_VERSION = re.compile(r"[\w.!+-]+")
_VERSION_LINE = re.compile(r"^__version__\s*=\s*[\"']([\w.!+-]+)[\"']", re.MULTILINE)


class SourceError(OSError):
    """A source, or a file of it, that cannot be read: says what was wrong, where, and what to do about it."""


class Readable(Protocol):
    """Files of one version of a package."""

    @property
    def package(self) -> str: ...

    @property
    def version(self) -> str | None: ...

    def read(self, path: str) -> bytes | None:
        """The bytes of one file of the package, or None if there is no such file. Raises `SourceError`."""
        ...

    def is_compiled(self, path: str) -> bool:
        """Whether this Python is known to have compiled the file as it is now: then it has no syntax error."""
        ...


class Source(Readable, Protocol):
    """A transformers tree that can be read file by file."""

    @property
    def location(self) -> Path:
        """The package directory or the archive."""
        ...

    @property
    def published(self) -> bool:
        """Whether the tree is one that somebody has built or committed, in which no file is being edited."""
        ...

    def paths(self) -> tuple[str, ...]:
        """The modeling files in sorted order, without those of deprecated models."""
        ...

    def left_out(self) -> tuple[str, ...]:
        """The modeling files of deprecated models, which are never scanned."""
        ...

    def problems(self) -> tuple[Failure, ...]:
        """What keeps modeling files from being found: a folder that cannot be listed, a link in a circle, ..."""
        ...

    def files(self) -> Iterator[SourceFile]:
        """Every modeling file with its bytes, in the order of `paths`."""
        ...


class Tree:
    """What every source derives from its list of names and from `read`."""

    def _names(self) -> tuple[str, ...]:
        raise NotImplementedError

    def read(self, path: str) -> bytes | None:
        raise NotImplementedError

    def is_compiled(self, path: str) -> bool:
        return False

    @property
    def published(self) -> bool:
        return True

    @property
    def package(self) -> str:
        return PACKAGE

    def paths(self) -> tuple[str, ...]:
        return tuple(name for name in self._names() if not name.startswith(_LEFT_OUT))

    def left_out(self) -> tuple[str, ...]:
        return tuple(name for name in self._names() if name.startswith(_LEFT_OUT))

    def problems(self) -> tuple[Failure, ...]:
        return ()

    def files(self) -> Iterator[SourceFile]:
        for path in self.paths():
            content = self.read(path)
            if content is not None:
                yield SourceFile(path, content)


@dataclass(frozen=True)
class DirectorySource(Tree):
    """A package directory, such as `site-packages/transformers`."""

    root: Path
    known_version: str | None = None

    @property
    def location(self) -> Path:
        return self.root

    @property
    def version(self) -> str | None:
        """The `__version__` of the package's text, else that of the dist-info folder beside it."""
        if self.known_version is not None:
            return self.known_version
        return written_version(self.read("__init__.py")) or _dist_info_version(self.root)

    @property
    def published(self) -> bool:
        return False

    def is_compiled(self, path: str) -> bool:
        return is_compiled(self.root / path)

    def _names(self) -> tuple[str, ...]:
        return self._listing()[0]

    def problems(self) -> tuple[Failure, ...]:
        return self._listing()[1]

    def _listing(self) -> tuple[tuple[str, ...], tuple[Failure, ...]]:
        try:
            return modeling_files_below(self.root)
        except OSError as error:
            raise SourceError(f"cannot list {error.filename}: {error.strerror}. Check its permissions.") from error

    def read(self, path: str) -> bytes | None:
        """The bytes of one file. A file that exists and cannot be read, or is too large, is a `SourceError`."""
        try:
            with (self.root / path).open("rb") as stream:
                content = stream.read(MAX_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SourceError(f"cannot read {self.root / path}: {error.strerror}. Check its permissions.") from error
        if len(content) > MAX_FILE_BYTES:
            size = f"{MAX_FILE_BYTES // 2**20} MB"
            raise SourceError(f"cannot read {self.root / path}: it is larger than {size}, which no source file is.")
        return content


@dataclass(frozen=True)
class ArchiveSource(Tree):
    """A wheel (.whl, .zip) or an sdist (.tar.gz). `prefix` is the folder of the package inside it, with its slash."""

    path: Path
    prefix: str

    @property
    def location(self) -> Path:
        return self.path

    @property
    def version(self) -> str | None:
        return written_version(self.read("__init__.py"))

    def _names(self) -> tuple[str, ...]:
        return self._listing()[0]

    def problems(self) -> tuple[Failure, ...]:
        from fusegen.codegen.archives import open_archive

        return (*open_archive(self.path).problems(), *self._listing()[1])

    def _listing(self) -> tuple[tuple[str, ...], tuple[Failure, ...]]:
        inside = (name.removeprefix(self.prefix) for name in _names_in(self.path) if name.startswith(self.prefix))
        return readable_names(sorted({name for name in inside if MODELING.fullmatch(name)}))

    def read(self, path: str) -> bytes | None:
        """The bytes of one member. One that unpacks to more than the allowed size is a `SourceError`."""
        from fusegen.codegen.archives import ArchiveError, open_archive

        try:
            return open_archive(self.path).read(self.prefix + path)
        except ArchiveError as error:
            raise SourceError(f"cannot read {path} in {self.path}: {error}. Download the archive again.") from error


def open_source(spec: str) -> Source:
    """The source that `spec` names. A path that exists wins over a version of the same spelling."""
    if spec == "installed":
        return _installed()
    path = user_path(spec)
    if os.path.isdir(path):
        return _directory(path)
    if os.path.isfile(path):
        return _archive(path)
    folder, at, revision = spec.rpartition("@")
    if at and os.path.isdir(user_path(folder or ".")):
        from fusegen.codegen.git import open_revision

        return open_revision(user_path(folder or "."), revision)
    if _is_version(spec):
        from fusegen.codegen.download import fetch_wheel

        return _archive(fetch_wheel(spec))
    raise SourceError(
        f"there is no source {spec!r}: {_why_not_read(path)}, and not a version number. "
        "Give 'installed', a directory, a wheel, an sdist, a revision (path@rev) or a version such as 5.5.4."
    )


def user_path(spec: str) -> Path:
    """A path as a user gives it, which may begin with a tilde."""
    return Path(os.path.expanduser(spec))


def _why_not_read(path: Path) -> str:
    try:
        path.stat()
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "neither a directory nor a regular file"


def _installed() -> DirectorySource:
    from importlib.util import find_spec

    found = find_spec(PACKAGE)
    locations = list(found.submodule_search_locations or ()) if found else []
    if not locations:
        import sys

        raise SourceError(
            f"{PACKAGE} is not installed for {sys.executable}. "
            f"Install it (pip install {PACKAGE}), or name a source: --source 5.5.4, a wheel or a directory."
        )
    root = Path(locations[0])
    if not (root / "models").is_dir():
        raise SourceError(f"the installed {PACKAGE} at {root} has no models/ folder. Name another source.")
    text_version = DirectorySource(root).version
    if text_version is not None:
        return DirectorySource(root, text_version)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return DirectorySource(root, version(PACKAGE))
    except PackageNotFoundError:
        return DirectorySource(root)


def _directory(path: Path) -> DirectorySource:
    for root in (path / place for place in PLACES):
        if (root / "models").is_dir() and (root / "__init__.py").is_file():
            return DirectorySource(root.resolve())
    raise no_package(str(path))


def no_package(where: str) -> SourceError:
    """The error for a folder that has the package in none of its `PLACES`."""
    return SourceError(
        f"{where} holds no {PACKAGE} package: neither it, nor {PACKAGE}/, nor src/{PACKAGE}/ in it has both "
        "__init__.py and models/. Give the package folder or a checkout."
    )


def _archive(path: Path) -> ArchiveSource:
    names = _names_in(path)
    inits = (name for name in names if name.endswith(f"{PACKAGE}/__init__.py"))
    for name in sorted(inits, key=lambda name: name.count("/")):
        prefix = name.removesuffix("__init__.py")
        if re.fullmatch(rf"(?:[^/]+/)?(?:src/)?{PACKAGE}/", prefix):
            _assert_plain(path, prefix, names)
            return ArchiveSource(path.resolve(), prefix)
    raise SourceError(f"{path} holds no {PACKAGE} package. Give a wheel or an sdist of {PACKAGE}.")


def _assert_plain(path: Path, prefix: str, names: tuple[str, ...]) -> None:
    """No member of the package is a link, a device or there twice: what such a name holds depends on who unpacks it."""
    from fusegen.codegen.archives import open_archive

    for name in open_archive(path).irregular():
        if name.startswith(prefix) or prefix.startswith(f"{name}/"):
            raise SourceError(
                f"cannot read {path}: the member {name!r} is a link or no regular file. Give another archive."
            )
    counts = Counter(name for name in names if name.startswith(prefix) and not name.endswith("/"))
    for name, count in counts.items():
        if count > 1:
            raise SourceError(f"cannot read {path}: the member {name!r} is there {count} times. Give another archive.")


def _names_in(path: Path) -> tuple[str, ...]:
    from fusegen.codegen.archives import ArchiveError, open_archive

    try:
        return open_archive(path).names()
    except ArchiveError as error:
        raise SourceError(f"cannot read {path}: {error}. Give a wheel (.whl) or an sdist (.tar.gz).") from error


def _is_version(spec: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        Version(spec)
    except InvalidVersion:
        return False
    return True


def written_version(text: bytes | None) -> str | None:
    """The `__version__` that the text of `__init__.py` assigns, if it does."""
    found = _VERSION_LINE.search(text.decode("utf-8", "replace")) if text else None
    return found[1] if found else None


def _dist_info_version(root: Path) -> str | None:
    folders = sorted(root.parent.glob(f"{root.name}-*.dist-info"))
    spelled = folders[0].name.removesuffix(".dist-info").split("-", 1)[1] if len(folders) == 1 else ""
    return spelled if _VERSION.fullmatch(spelled) else None
