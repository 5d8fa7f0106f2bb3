"""What the commands share in talking to a terminal: results on stdout, everything else on stderr."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

# A bar that appears and is gone at once is noise, and rich takes a tenth of a second to import.
PATIENCE_SECONDS = 0.4

BROKEN_PIPE = 128 + 13


class Refused(click.ClickException):
    """Input that cannot be used: the message is for people, the exit status is 2."""

    exit_code = 2


def wants_color(stream: IO[Any]) -> bool:
    """NO_COLOR wins over FORCE_COLOR; without either, a terminal that is not `dumb` gets colours."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal(stream)


def is_terminal(stream: IO[Any]) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def note(message: str, verbosity: int) -> None:
    """A remark on stderr, unless the user asked for quiet."""
    if verbosity >= 0:
        click.echo(message, err=True)


def start_logging(verbosity: int) -> None:
    """Log lines go to stderr: warnings, with -v what is going on, with -q errors only."""
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    logger = logging.getLogger("fusegen")
    logger.setLevel(level)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger.handlers = [handler]
    logger.propagate = False


def write_result(text: str, output_file: Path | None) -> None:
    """Puts the result on stdout, or into a file in one step: a reader sees the old file or the new one.

    A reader of stdout that goes away ends the command quietly, with the status of a program that SIGPIPE ended.
    """
    if output_file is None:
        # What a narrow encoding cannot spell becomes a question mark, not a traceback.
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError as error:
            # Whatever is left in the buffer would raise again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(BROKEN_PIPE) from error
        return
    import tempfile

    try:
        handle, fresh = tempfile.mkstemp(dir=output_file.parent, prefix=f".{output_file.name}.")
        try:
            with open(handle, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
            Path(fresh).chmod(0o666 & ~_umask())
            os.replace(fresh, output_file)
        except BaseException:
            Path(fresh).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Refused(f"cannot write {output_file}: {error.strerror}. Choose another --output-file.") from error


def path_prefix(location: Path) -> str:
    """The way from the working directory to a package folder below it, with a slash at the end; else nothing."""
    here = Path.cwd()
    if not location.is_dir() or not location.is_relative_to(here):
        return ""
    inside = os.path.relpath(location, here).replace(os.sep, "/")
    return "" if inside == "." else f"{inside}/"


@contextmanager
def progress_bar(description: str, verbosity: int) -> Iterator[Callable[..., None] | None]:
    """A callback that draws a bar on stderr once the work takes long; None without a terminal.

    It takes `(done, total)` and, where there is more to say, the names of what is `running`.
    """
    if verbosity < 0 or not is_terminal(sys.stderr):
        yield None
        return
    bar = _Bar(description)
    try:
        yield bar
    finally:
        bar.close()


class _Bar:
    """Imports rich and appears on the first call after `PATIENCE_SECONDS`; vanishes when closed."""

    def __init__(self, description: str) -> None:
        self._description = description
        self._start = time.monotonic()
        self._progress: Any = None

    def __call__(self, done: int, total: int, running: tuple[str, ...] = ()) -> None:
        if self._progress is None:
            if time.monotonic() - self._start < PATIENCE_SECONDS:
                return
            self._progress = _rich_progress()
            self._task = self._progress.add_task(self._description, total=total)
            self._progress.start()
        description = " ".join([self._description, *running])
        self._progress.update(self._task, completed=done, total=total, description=description)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()


def _rich_progress() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
