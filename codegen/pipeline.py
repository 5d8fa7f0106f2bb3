"""From sources to outcomes: which functions to read, in which process, and the one place that catches.

A bug in fusegen shows as a `Failure` of one file; the rest of the scan goes on.
"""

from __future__ import annotations

import gc
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from fusegen.codegen import byte_code
from fusegen.codegen.choosing import Choice, has_nothing, mentions_labels
from fusegen.codegen.decoding import decode
from fusegen.codegen.findings import Analysis
from fusegen.codegen.fusions import linear_cross_entropy
from fusegen.codegen.index import FileIndex
from fusegen.codegen.isolation import bug
from fusegen.codegen.losses import LossReader, loss_mapping
from fusegen.codegen.members import Scope
from fusegen.codegen.patience import TookTooLong, limited
from fusegen.codegen.processes import worker_pool
from fusegen.codegen.records import MATCH, Aside, Failure, FileReport, ScanReport, Site

if TYPE_CHECKING:
    from fusegen.codegen.cache import Cache
    from fusegen.codegen.sources import Readable, Source

# A change to what is recovered from source, in any way, must change this: it is part of the cache's key.
RULES_VERSION = "7"

# What says which loss `self.loss_function` is.
_LOSS_UTILS = "loss/loss_utils.py"

_CLASS = re.compile(r"\nclass[ \t]+(\w+)")


def scan(
    source: Source,
    *,
    jobs: int | None = None,
    cache: Cache[FileReport] | None = None,
    progress: Callable[[int, int], None] | None = None,
    models: tuple[str, ...] = (),
) -> ScanReport:
    """Read every modeling file of `source` and give its sites, in path order.

    `jobs` processes (default: one per processor) do the reading; `cache` saves files that have not changed;
    `progress` is told (files done, files in all); `models` limits the scan to these model folders.
    """
    found = read_all(_read_path, source, jobs=jobs, cache=cache, progress=progress, models=models)
    return report_on(source, found, whole=not models)


def report_on(source: Source, files: tuple[FileReport, ...], *, whole: bool) -> ScanReport:
    """The report on a tree of which `files` were read: with what keeps others from being found, if that was `whole`."""
    lost = source.problems() if whole else ()
    mapping = loss_mapping(source.read(_LOSS_UTILS))
    if mapping.problem:
        why = f"{mapping.problem}; `self.loss_function` is read as in transformers 4.56"
        lost += (Failure(_LOSS_UTILS, mapping.line, why),)
    files += tuple(FileReport(problem.file, failures=(problem,)) for problem in lost)
    return ScanReport(source.package, source.version, files, complete=whole)


class Outcome(Protocol):
    """What reading one file gives: a report, or something that is made from one."""

    @property
    def path(self) -> str: ...

    @property
    def failures(self) -> tuple[Failure, ...]: ...


Result = TypeVar("Result", bound=Outcome)


def read_all(
    read: Callable[[Source, str, dict[str, str]], Result],
    source: Source,
    *,
    jobs: int | None = None,
    cache: Cache[Result] | None = None,
    progress: Callable[[int, int], None] | None = None,
    models: tuple[str, ...] = (),
) -> tuple[Result, ...]:
    """`read(source, path, mapping)` for every modeling file, in path order; arguments as for `scan`.

    `mapping` is `names` of `loss_mapping`. A result with a failure is not kept in the cache.
    """
    paths = [path for path in source.paths() if not models or path.split("/")[1] in models]
    mapping = loss_mapping(source.read(_LOSS_UTILS)).names
    found: dict[str, Result] = {}
    digests: dict[str, str] = {}
    if cache is not None:
        # In what is published, less may have been looked at.
        salt = repr((source.published, sorted(mapping.items()))).encode()
        for path in paths:
            content = _content(source, path)
            if content is not None:
                digests[path] = hashlib.sha256(content + salt).hexdigest()
                known = cache.get(path, digests[path])
                if known is not None:
                    found[path] = known
    missing = [path for path in paths if path not in found]
    for number, result in enumerate(_in_processes(read, source, missing, mapping, jobs), start=1):
        found[result.path] = result
        if cache is not None and result.path in digests and not result.failures:
            cache.put(result.path, digests[result.path], result)
        if progress is not None:
            progress(len(paths) - len(missing) + number, len(paths))
    if cache is not None and missing:
        cache.save()
    return tuple(found[path] for path in paths)


def _content(source: Source, path: str) -> bytes | None:
    """The bytes of a file; None where it cannot be read, which reading it for its sites will report."""
    try:
        return source.read(path)
    except OSError:
        return None


def _in_processes(
    read: Callable[[Source, str, dict[str, str]], Result],
    source: Source,
    paths: list[str],
    mapping: dict[str, str],
    jobs: int | None,
) -> Iterator[Result]:
    """`read(source, path, mapping)` for every path, in no particular order, over `jobs` processes."""
    jobs = min(jobs or os.cpu_count() or 1, max(1, len(paths) // 8))
    if jobs == 1:
        for path in paths:
            yield read(source, path, mapping)
        return
    chunks = [paths[start :: jobs * 8] for start in range(jobs * 8)]
    alone: list[str] = []
    with worker_pool(jobs) as pool:
        reading = [(chunk, pool.submit(_read_chunk, read, source, chunk, mapping)) for chunk in chunks if chunk]
        for chunk, future in reading:
            try:
                yield from future.result()
            except BrokenProcessPool:
                alone += chunk
    for path in alone:
        # A process died, and with it what the others were at: only the file that it dies of again is lost.
        with worker_pool(1) as pool:
            try:
                yield pool.submit(read, source, path, mapping).result()
            except BrokenProcessPool:
                yield read(_Deadly(source), path, mapping)


@dataclass(frozen=True)
class _Deadly:
    """A source of which no file is read: the process that read this one died of it."""

    source: Source

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def read(self, path: str) -> bytes | None:
        raise Died("the process that reads it dies of it: please report this file")


class Died(Exception):
    """A file that ends the process which reads it."""


def _read_chunk(
    read: Callable[[Source, str, dict[str, str]], Result], source: Source, paths: list[str], mapping: dict[str, str]
) -> list[Result]:
    # Syntax trees have no cycles; looking for some costs a fifth of the time.
    gc.disable()
    return [read(source, path, mapping) for path in paths]


def _read_path(source: Source, path: str, mapping: dict[str, str]) -> FileReport:
    return read_path(source, path, mapping, whole=not source.published)[0]


def read_path(
    source: Readable, path: str, mapping: dict[str, str], *, whole: bool = True
) -> tuple[FileReport, list[tuple[Site, Analysis]], FileIndex | None, bytes]:
    """`read_index` of a file of the source, and its bytes; what cannot be read is a failure in the report.

    Without `whole`, errors of syntax are found in the functions that are read, not in the rest of the file.
    """
    content: bytes | None = None
    try:
        content = source.read(path)
        if content is None:
            raise FileNotFoundError("the file vanished while it was scanned, or is a link to nothing")
        text = decode(content)
        if whole and not source.is_compiled(path):
            byte_code.parse(text)
        return (*read_index(path, text, mapping), content)
    except SyntaxError as error:
        failure = Failure(path, error.lineno or 0, f"not Python: {error.msg}")
    except (RecursionError, MemoryError):
        failure = Failure(path, 0, "cannot be read: an expression is nested too deeply")
    except (OSError, ValueError) as error:
        failure = Failure(path, 0, str(error))
    except Exception:
        failure = bug(path, 0, "it cannot be read")
    return FileReport(path, failures=(failure,)), [], None, content or b""


def read_file(path: str, text: str, mapping: dict[str, str]) -> FileReport:
    """The sites of one modeling file. Raises `SyntaxError` if it is not Python."""
    return read_index(path, text, mapping)[0]


def read_index(
    path: str, text: str, mapping: dict[str, str]
) -> tuple[FileReport, list[tuple[Site, Analysis]], FileIndex | None]:
    """The sites of one modeling file, with the walk behind each match and the index of the file."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if has_nothing(text):
        return FileReport(path, classes=_classes(text)), [], None
    try:
        # A form feed may stand before a definition, where the text pass does not look for one.
        index = FileIndex.whole(text) if "\f" in text else FileIndex(text)
        return (*_read_functions(path, index, mapping), index)
    except SyntaxError:
        # The text pass cut in a wrong place (or the file is no Python at all, which shows now).
        index = FileIndex.whole(text)
        return (*_read_functions(path, index, mapping), index)


def _classes(text: str) -> tuple[str, ...]:
    """The classes that a file defines at its margin, as far as its text shows."""
    return tuple(dict.fromkeys(_CLASS.findall("\n" + text)))


def _read_functions(
    path: str, index: FileIndex, mapping: dict[str, str]
) -> tuple[FileReport, list[tuple[Site, Analysis]]]:
    scope = Scope(index)
    losses = LossReader(scope, mapping)
    matches: list[tuple[Site, Analysis]] = []
    sites: list[Site] = []
    asides: list[Aside] = []
    failures: list[Failure] = []
    choice = Choice(index)
    for block in choice.functions():
        name = f"{block.owner}.{block.name}" if block.owner else block.name
        why_not = choice.why_not(block)
        if why_not is not None:
            asides.append(Aside(name, block.line, why_not))
            continue
        try:
            with limited():
                analysis = linear_cross_entropy.analyse(block, scope, losses)
                outcome = linear_cross_entropy.conclude(analysis, path)
        except SyntaxError:
            raise
        except TookTooLong as error:
            failures.append(Failure(path, block.line, f"{name} is not read: {error}"))
            continue
        except (RecursionError, MemoryError):
            failures.append(Failure(path, block.line, f"{name} cannot be read: an expression is nested too deeply"))
            continue
        except Exception:
            failures.append(bug(path, block.line, name))
            continue
        if isinstance(outcome, Site):
            sites.append(outcome)
            if outcome.verdict == MATCH:
                matches.append((outcome, analysis))
        elif outcome is not None:
            asides.append(outcome)
    report = FileReport(
        path,
        tuple(sites),
        tuple(asides),
        tuple(failures),
        mentions_labels=bool(sites or asides) or mentions_labels(index.text),
        classes=_classes(index.text),
    )
    return report, matches
