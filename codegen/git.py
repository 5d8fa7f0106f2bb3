"""A transformers tree at one revision of a git repository, read from its objects: nothing is checked out.

One `git cat-file --batch` per process hands out the files; it ends with the process.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fusegen.codegen.decoding import MAX_FILE_BYTES
from fusegen.codegen.listing import MODELING
from fusegen.codegen.paths import readable_names, why_not_below
from fusegen.codegen.records import Failure
from fusegen.codegen.sources import PLACES, SourceError, Tree, no_package, written_version

_OTHERS = {"120000": "it is a link, which is not followed in a revision", "160000": "it is a submodule"}


@dataclass(frozen=True)
class GitSource(Tree):
    """The package at `commit` (a full hash) of `repository`; `prefix` is its folder there, with its slash."""

    repository: Path
    commit: str
    prefix: str

    @property
    def location(self) -> Path:
        return self.repository / self.prefix

    @property
    def version(self) -> str | None:
        return written_version(self.read("__init__.py"))

    def _names(self) -> tuple[str, ...]:
        return self._listing()[0]

    def problems(self) -> tuple[Failure, ...]:
        return self._listing()[1]

    def _listing(self) -> tuple[tuple[str, ...], tuple[Failure, ...]]:
        """Every modeling file. Raises `SourceError` for a link, a submodule or a name that leads out of the tree."""
        tree = f"{self.commit}:{self.prefix}models"
        listed = os.fsdecode(_git(self.repository, "ls-tree", "-r", "-z", "--end-of-options", tree))
        found: list[str] = []
        for line in filter(None, listed.split("\0")):
            facts, _, name = line.partition("\t")
            path, mode = f"models/{name}", facts.split(" ")[0]
            modeling = MODELING.fullmatch(path) is not None
            if why := _why_refused(path, mode, modeling):
                raise SourceError(
                    f"cannot read {path!r} at {self.commit[:12]} of {self.repository}: {why}. "
                    "Give a directory or a wheel."
                )
            if modeling:
                found.append(path)
        return readable_names(sorted(found))

    def read(self, path: str) -> bytes | None:
        """The bytes of one file at the revision. Raises `SourceError` for one that is too large, or if git fails."""
        try:
            return _objects(self.repository, os.getpid()).read(f"{self.commit}:{self.prefix}{path}")
        except (OSError, ValueError) as error:
            raise SourceError(f"cannot read {path} at {self.commit[:12]} of {self.repository}: {error}.") from error


def open_revision(folder: Path, revision: str) -> GitSource:
    """The package that `folder`, a repository or a folder of one, holds at `revision`.

    Raises `SourceError` if there is no such repository or revision, or no package there.
    """
    commit = os.fsdecode(_hash(folder, f"{revision}^{{commit}}")).strip()
    if not commit:
        raise SourceError(f"{folder} has no revision {revision!r}. Fetch it first: git fetch --tags")
    # The way down from the root of the repository, and the way up to it: both are empty there.
    ways = os.fsdecode(_git(folder, "rev-parse", "--show-prefix", "--show-cdup"))
    down, _, up = ways.removesuffix("\n").rpartition("\n")
    for prefix in (down + place for place in PLACES):
        if _hash(folder, f"{commit}:{prefix}__init__.py") and _hash(folder, f"{commit}:{prefix}models"):
            return GitSource((folder / up).resolve(), commit, prefix)
    raise no_package(f"{folder} at {revision}")


def _hash(repository: Path, name: str) -> bytes:
    """The hash of an object, with a line end; empty if there is no such object."""
    return _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", name, no=1)


def _git(repository: Path, *arguments: str, no: int = 0) -> bytes:
    """What git prints. The status `no` is an answer as 0 is; any other one is a `SourceError`."""
    try:
        done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, check=False)
    except FileNotFoundError as error:
        raise SourceError("a revision is read with git, and git is not installed. Give a directory.") from error
    if done.returncode not in (0, no):
        raise SourceError(f"git cannot read {repository}: {os.fsdecode(done.stderr).strip()}")
    return done.stdout


def _why_refused(path: str, mode: str, modeling: bool) -> str | None:
    """Why an entry below models/ must not be passed over; a link without a suffix may stand for a folder of models."""
    may_hold_models = modeling or "." not in path.rpartition("/")[2]
    return why_not_below(path) or (_OTHERS.get(mode) if may_hold_models else None)


@lru_cache(maxsize=4)
def _objects(repository: Path, process: int) -> _Objects:
    return _Objects(repository)


class _Objects:
    """A running `git cat-file --batch`."""

    def __init__(self, repository: Path) -> None:
        command = ["git", "-C", str(repository), "cat-file", "--batch"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def read(self, name: str) -> bytes | None:
        """The content of the file that `commit:path` names; None if there is none. Raises `ValueError` if too large."""
        if "\n" in name:
            return None
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(os.fsencode(name) + b"\n")
        stdin.flush()
        header = stdout.readline()
        if not header:
            raise ValueError("git ended")
        if header.endswith((b" missing\n", b" ambiguous\n")):
            return None
        _, kind, spelled = header.split()
        size = int(spelled)
        content = stdout.read(min(size, MAX_FILE_BYTES))
        for start in range(MAX_FILE_BYTES, size, MAX_FILE_BYTES):
            stdout.read(min(size - start, MAX_FILE_BYTES))
        stdout.read(1)
        if size > MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {MAX_FILE_BYTES // 2**20} MB, which no source file is")
        return content if kind == b"blob" else None
