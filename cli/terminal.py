"""What the commands share in talking to a terminal: results on stdout, everything else on stderr."""

from __future__ import annotations

import errno
import logging
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import click

from fusegen.codegen.visible import visible, visible_lines

# A bar that appears and is gone at once is noise, and rich takes a tenth of a second to import.
PATIENCE_SECONDS = 0.4

BROKEN_PIPE = 128 + 13


class Refused(click.ClickException):
    """Input that cannot be used: the message is for people, the exit status is 2."""

    exit_code = 2

    def format_message(self) -> str:
        return visible(self.message)


def claim_streams(command: Sequence[str]) -> None:
    """Gives closed standard streams a file that refuses what is written, so that no other file gets their number.

    Raises `Refused` without a stderr, where errors would be silent; the program of `fusegen run` may do without one.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)
    missing = sys.stderr is None
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if missing and list(command) != ["run"]:
        sys.stdout.write("Error: stderr is closed, and what goes wrong is said there. Give it a file: 2>errors.txt\n")
        raise Refused("stderr is closed.")


def say(error: click.ClickException) -> int:
    """Shows an error on stderr, if it can be written at all; the exit status for it."""
    abandon_unwritable(sys.stdout)
    with suppress(OSError):
        error.show()
    abandon_unwritable(sys.stderr)
    return error.exit_code


def say_internal(error: Exception) -> int:
    """Shows a bug of fusegen as one line, and where it is; the exit status for it."""
    logging.getLogger("fusegen").debug("what led to it", exc_info=error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return say(Refused(f"internal error, please report it: {type(error).__name__}: {error}{where}"))


def abandon_unwritable(stream: IO[str]) -> None:
    """Drops what a stream holds back and cannot write, which would raise again at exit."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible_lines(super().format(record))


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
        click.echo(visible(message), err=True)


def start_logging(verbosity: int) -> None:
    """Log lines go to stderr: warnings, with -v what is going on, with -q errors only."""
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    logger = logging.getLogger("fusegen")
    logger.setLevel(level)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(levelname)s %(name)s: %(message)s"))
    logger.handlers = [handler]
    logger.propagate = False


def write_result(text: str, output_file: Path | None) -> None:
    """Puts the result on stdout, or into a file in one step: a reader sees the old file or the new one.

    A reader of stdout that goes away ends the command quietly, with the status of a program that SIGPIPE ended.
    """
    if output_file is None:
        _print(text)
        return
    try:
        if output_file.exists() and not output_file.is_file():
            # A device or a pipe is written to, never replaced.
            output_file.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
        else:
            _put(output_file.resolve(), text)
    except OSError as error:
        raise Refused(f"cannot write {output_file}: {error.strerror}. Choose another --output-file.") from error


def write_diff(text: str, output_file: Path | None = None) -> None:
    """`write_result` for a diff, which is exact for who applies it; a terminal gets nothing that acts on it."""
    exact = output_file is not None or not is_terminal(sys.stdout)
    write_result(text if exact else visible_lines(text), output_file)


def _print(text: str) -> None:
    # What a narrow encoding cannot spell becomes a question mark, not a traceback.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="replace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        abandon_unwritable(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise click.exceptions.Exit(BROKEN_PIPE) from error
        said = "it is closed" if error.errno == errno.EBADF else error.strerror
        raise Refused(f"cannot write the result to stdout: {said}. Give it a file that can be written.") from error


def _put(file: Path, text: str) -> None:
    handle, fresh = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name[:40]}.")
    try:
        with open(handle, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
            stream.write(text)
        Path(fresh).chmod(0o666 & ~_umask())
        os.replace(fresh, file)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


def path_prefix(location: Path) -> str:
    """The way from the working directory to a package folder below it, with a slash at the end; else nothing."""
    try:
        here = Path.cwd()
    except OSError:
        return ""
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
