"""The command line. Each command is a file of this package and is imported only when it is asked for."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module

import click

from fusegen import __version__

INTERRUPTED = 128 + 2

COMMANDS = {
    "scan": "Find every language-model head and loss and say whether it can be fused.",
    "emit": "Write patched modeling files for every match that can be emitted.",
    "verify": "Show that every generated forward computes what its original computes.",
    "diff": "Show what changed between two transformers trees, for every head and loss.",
    "run": "Run a training program with fusegen installed in it.",
    "doctor": "Say what fusegen.install() would do here, with all versions.",
    "explain": "Show one site in full, beside the source lines that it comes from.",
    "rule": "Explain a reason code, or list them all.",
}


class LazyGroup(click.Group):
    """A group whose command `name` is the attribute `command` of the module `fusegen.cli.name`."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"fusegen.cli.{name}").command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", "-V", prog_name="fusegen", message="%(prog)s %(version)s")
def cli() -> None:
    """Find the language-model heads and losses of a transformers tree, and fuse what can be fused.

    Exit status: 0 clean, 1 findings (--fail-on, --check), 2 wrong usage, unreadable input or an internal error.
    """


def main() -> None:
    """The entry point: whatever goes wrong is one line for people and a status that is not 1."""
    sys.exit(_status())


def _status() -> int:
    from fusegen.cli.terminal import BROKEN_PIPE, Refused, claim_streams, say, say_internal

    try:
        claim_streams(sys.argv[1:2])
        status = cli.main(prog_name="fusegen", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        return say(error)
    except (click.Abort, KeyboardInterrupt):
        with suppress(OSError):
            click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except SystemExit as ended:
        # click's own answer to a reader that went away, and what shell completion ends with.
        return BROKEN_PIPE if ended.code == 1 else int(ended.code or 0)
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return say(Refused(f"{where}{error.strerror or error}."))
    except Exception as error:
        return say_internal(error)
    return status if isinstance(status, int) else 0
