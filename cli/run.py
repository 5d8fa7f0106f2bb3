"""`fusegen run`: a training program with fusegen installed, as it is."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

STARTUP = Path(__file__).resolve().parents[1] / "startup"


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def command(program: tuple[str, ...]) -> None:
    """Run a program with fusegen installed in it, and in every Python that it starts.

    \b
        fusegen run -- train.py --lr 1e-4
        fusegen run -- -m package.train
        fusegen run -- torchrun --nproc_per_node=8 train.py
        torchrun --nproc_per_node=8 $(which fusegen) run -- train.py

    A script, -m and -c are run by this Python, anything else is looked for on the PATH. FUSEGEN=0 in the
    environment runs the program without fusegen; FUSEGEN_FUSE says when to fuse.
    """
    from fusegen.cli.terminal import Refused

    _check_policy()
    arguments = _arguments(program)
    environment = os.environ | {
        "PYTHONPATH": _python_path(),
        "FUSEGEN": "0" if os.environ.get("FUSEGEN") == "0" else "1",
    }
    try:
        sys.stdout.flush()
        os.execvpe(arguments[0], arguments, environment)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Refused(f"cannot run {arguments[0]}: {why}. Name a script, -m or a program.") from error


def _check_policy() -> None:
    """A refusal for a FUSEGEN_FUSE that `install()` would not take, before anything is started."""
    from fusegen.cli.terminal import Refused
    from fusegen.contract.policy import ENVIRONMENT, checked_choice

    try:
        if os.environ.get("FUSEGEN") != "0" and (fuse := os.environ.get(ENVIRONMENT)):
            checked_choice(fuse, ENVIRONMENT)
    except ValueError as error:
        raise Refused(f"{error}. Nothing was started.") from error


def _arguments(program: tuple[str, ...]) -> list[str]:
    first = program[0]
    if first in ("-m", "-c") or first.endswith(".py") or (Path(first).is_file() and shutil.which(first) is None):
        # Launchers run `python -u fusegen run ...` to see the output as it comes.
        unbuffered = ["-u"] if "-u" in sys.orig_argv[1:2] else []
        return [sys.executable, *unbuffered, *program]
    return [*program]


def _python_path() -> str:
    others = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != str(STARTUP)]
    return os.pathsep.join([str(STARTUP), *others])
