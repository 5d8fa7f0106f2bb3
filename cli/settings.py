"""Settings from `[tool.fusegen]` of the nearest pyproject.toml that has such a table.

    [tool.fusegen]
    source = "installed"
    ignore = ["FG4"]
    fail-on = ["reject"]

The command line wins over the environment, which wins over the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from fusegen.cli.terminal import Refused

TABLE = "tool.fusegen"

# The settings and what they hold. Each becomes the default of the option of the same name, in every command
# that has it; those of `_OF_SCAN` are scan's alone, since other commands mean other things by them.
SETTINGS: dict[str, type] = {
    "source": str,
    "format": str,
    "select": list,
    "ignore": list,
    "model": list,
    "fail-on": list,
    "jobs": int,
    "cache": bool,
}

_OF_SCAN = ("format", "fail-on")

_SPELLED = {str: "a string", list: "a list of strings", int: "an integer", bool: "true or false"}


def load(context: click.Context, parameter: click.Parameter, file: Path | None) -> None:
    """The callback of `--config`: makes the settings of `file`, or of the nearest pyproject.toml, the defaults."""
    if context.resilient_parsing:
        return
    if file is None:
        path, table = _nearest()
    else:
        path, table = file, _table(file)
        if table is None:
            raise Refused(f"{file} has no [{TABLE}] table. Add one, or leave --config out.")
    if table is None:
        return
    settings = {key: _checked(key, value, path) for key, value in table.items()}
    options = {name: option.name for option in context.command.params for name in option.opts if option.name}
    context.default_map = {
        options[f"--{key}"]: value
        for key, value in settings.items()
        if f"--{key}" in options and (key not in _OF_SCAN or context.command.name == "scan")
    }


def _nearest() -> tuple[Path, dict[str, Any] | None]:
    try:
        start = Path.cwd()
    except OSError as error:
        raise Refused(f"the working directory cannot be read: {error.strerror}. Change to another one.") from error
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if os.path.isfile(file):
            table = _table(file)
            if table is not None:
                return file, table
    return start, None


def _table(file: Path) -> dict[str, Any] | None:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read the settings in {file}: {error}.") from error
    if "fusegen" not in text:
        return None
    import tomllib

    try:
        table = tomllib.loads(text).get("tool", {}).get("fusegen")
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{file} is not valid TOML: {error}.") from error
    if table is not None and not isinstance(table, dict):
        raise Refused(f"{file}: [{TABLE}] must be a table.")
    return table


def _checked(key: str, value: Any, file: Path) -> Any:
    kind = SETTINGS.get(key)
    if kind is None:
        from difflib import get_close_matches

        close = get_close_matches(key, SETTINGS, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"The settings are {', '.join(sorted(SETTINGS))}."
        raise Refused(f"{file}: unknown setting {key!r} in [{TABLE}]. {hint}")
    if kind is list and isinstance(value, str):
        value = [value]
    wrong = not isinstance(value, kind) or (kind is int and isinstance(value, bool))
    if wrong or (kind is list and not all(isinstance(item, str) for item in value)):
        raise Refused(f"{file}: the setting {key!r} in [{TABLE}] must be {_SPELLED[kind]}, not {value!r}.")
    if key == "source" and (file.parent / value).exists():
        return str(file.parent / value)
    return value
