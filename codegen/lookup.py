"""Finds the class that a person means by a name, without reading more of a tree than its text.

LlamaForCausalLM   llama.LlamaForCausalLM   LlamaForCausalLM.forward   llama.LlamaForCausalLM.forward
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from fusegen.codegen.records import FileReport, ScanReport
from fusegen.codegen.sources import Source

_DEFINITION = re.compile(rb"^(?:class|def)[ \t]+(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Definition:
    """A class or a top-level function, and where it stands."""

    name: str
    file: str
    line: int

    @property
    def model(self) -> str:
        return self.file.split("/")[1]


class UnknownName(LookupError):
    """No class or function has this name; the message says which come close."""


def definitions(source: Source, name: str) -> tuple[Definition, ...]:
    """The definitions that `name` can mean. Raises `UnknownName` if there are none."""
    parts = name.split(".")
    found: list[Definition] = []
    others: set[str] = set()
    for file in source.files():
        for match in _DEFINITION.finditer(file.content):
            spelled = match[1].decode("ascii", "replace")
            if spelled in parts:
                line = file.content.count(b"\n", 0, match.start()) + 1
                found.append(Definition(spelled, file.path, line))
            else:
                others.add(spelled)
    meant = tuple(each for each in found if _fits(parts, each))
    if not meant:
        raise UnknownName(_unknown(name, found, others))
    return meant


def narrow_to(report: ScanReport, name: str, meant: tuple[Definition, ...]) -> ScanReport:
    """`report` with the sites and asides of the definitions in `meant`, and of the method that `name` may add."""
    parts = name.split(".")
    return replace(report, files=tuple(_of(file, parts, meant) for file in report.files), complete=False)


def _fits(parts: list[str], definition: Definition) -> bool:
    """Whether what stands before the definition's name in `parts` is nothing or its model."""
    return parts[: parts.index(definition.name)] in ([], [definition.model])


def _of(file: FileReport, parts: list[str], meant: tuple[Definition, ...]) -> FileReport:
    names = {definition.name for definition in meant if definition.file == file.path}
    wanted = {".".join((name, *parts[parts.index(name) + 1 :])) for name in names}

    def chosen(function: str) -> bool:
        return any(function == each or function.startswith(each + ".") for each in wanted)

    sites = tuple(site for site in file.sites if chosen(site.id.removeprefix(f"{site.model}.")))
    return replace(
        file,
        sites=sites,
        hidden=file.hidden + len(file.sites) - len(sites),
        asides=tuple(aside for aside in file.asides if chosen(aside.function)),
    )


def _unknown(name: str, found: list[Definition], others: set[str]) -> str:
    from difflib import get_close_matches

    close = [f"{each.model}.{each.name}" for each in found[:3]]
    close = close or get_close_matches(max(name.split("."), key=len), sorted(_classes(others)), n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"no modeling file has a class or function {name!r}.{hint}"


def _classes(names: set[str]) -> Iterator[str]:
    return (name for name in names if name[:1].isupper())
