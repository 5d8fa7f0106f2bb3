"""The modeling files below a package folder, and what stands in the way of finding them.

Links to folders are followed, unless they lead back to a folder that they stand in. A name that is not UTF-8 can
stand in no report: such a file is not read.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath

from fusegen.codegen.paths import escaped_bytes, readable_names
from fusegen.codegen.records import Failure

MODELING = re.compile(r"models/(?:[^/]+/)+modeling_[^/]*\.py")


@cache
def modeling_files_below(root: Path) -> tuple[tuple[str, ...], tuple[Failure, ...]]:
    """Paths relative to `root` in sorted order, and a failure for each folder or link that cannot be followed.

    Raises `OSError` if `models/` itself cannot be listed.
    """
    found: list[str] = []
    problems: list[Failure] = []
    folders = ["models"]
    while folders:
        inside = folders.pop()
        try:
            _list(root, inside, found, folders, problems)
        except OSError as error:
            if inside == "models":
                raise
            problems.append(Failure(inside, 0, f"the folder cannot be listed: {error.strerror}"))
    names, odd = readable_names(sorted(found))
    problems = [replace(problem, file=escaped_bytes(problem.file)) for problem in problems]
    return names, tuple(sorted((*problems, *odd), key=lambda problem: problem.file))


def _list(root: Path, inside: str, found: list[str], folders: list[str], problems: list[Failure]) -> None:
    with os.scandir(root / inside) as entries:
        for entry in entries:
            path = f"{inside}/{entry.name}"
            try:
                folder, file = entry.is_dir(), entry.is_file()
            except OSError as error:
                problems.append(Failure(path, 0, f"the link cannot be followed: {error.strerror}"))
                continue
            if folder:
                if entry.is_symlink() and _leads_back(root, path):
                    problems.append(Failure(path, 0, "the link leads back to a folder that it stands in"))
                elif entry.name != "__pycache__":
                    folders.append(path)
            elif MODELING.fullmatch(path):
                if file or entry.is_symlink():  # a link to nothing is a file that cannot be read
                    found.append(path)
                else:
                    problems.append(Failure(path, 0, "this is no regular file"))


def _leads_back(root: Path, inside: str) -> bool:
    target = Path(os.path.realpath(root / inside))
    above = [Path(os.path.realpath(root / folder)) for folder in PurePosixPath(inside).parents]
    return target in above or target in above[-1].parents
