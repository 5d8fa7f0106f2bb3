"""The functions behind the sites of a report, cut from the source and from what was generated for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from fusegen.codegen.decoding import decode
from fusegen.codegen.index import FileIndex, FunctionBlock
from fusegen.codegen.records import MATCH, FileReport, ScanReport, Site
from fusegen.codegen.report.page import Excerpt, Refusal, SitePage
from fusegen.codegen.report.site import marks

_AROUND = 3
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def site_pages(
    report: ScanReport,
    read: Callable[[str], bytes | None],
    generated: Mapping[str, Excerpt] = _NOTHING,
    refusals: Mapping[str, Refusal] = _NOTHING,
) -> tuple[SitePage, ...]:
    """A page for every site of `report`; one whose source cannot be read any more has a page without it.

    Args:
        report: the scan.
        read: the bytes of a file of its tree, as `Source.read`.
        generated: by the path of a modeling file, the whole module that was generated from it (from line 1), with
            its path below the output folder.
        refusals: by the id of a site, why it matched and is in no generated module.
    """
    return tuple(
        replace(page, refusal=refusals.get(page.site.id))
        for file in report.files
        if file.sites
        for page in _file_pages(file, read, generated.get(file.path), refusals)
    )


def _file_pages(
    file: FileReport,
    read: Callable[[str], bytes | None],
    generated: Excerpt | None,
    refusals: Mapping[str, Refusal],
) -> Iterator[SitePage]:
    index = _index(
        _text(read, file.path), lambda index: all(_holds(_function(index, site), site) for site in file.sites)
    )
    inside = [site for site in file.sites if site.verdict == MATCH and site.id not in refusals] if generated else []
    module = _index(generated.text, lambda index: all(_function(index, site) for site in inside)) if generated else None
    for site in file.sites:
        if index is None:
            yield SitePage(site, None)
            continue
        original = _excerpt(file.path, _function(index, site))
        patched: Excerpt | None = None
        if generated and module and site in inside:
            patched = _excerpt(generated.path, _function(module, site))
        yield SitePage(site, original, tuple(_elsewhere(site, index.text, original)), patched)


def _text(read: Callable[[str], bytes | None], path: str) -> str:
    """A file with line feeds as line ends, as a scan reads it; nothing where it is gone."""
    try:
        return decode(read(path) or b"").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, SyntaxError):
        return ""


def _index(text: str, fits: Callable[[FileIndex], bool]) -> FileIndex | None:
    """The index of a text; from a parse of the whole where the quick one cut a function in a wrong place."""
    try:
        index = FileIndex(text)
        if fits(index):
            return index
    except SyntaxError:
        pass
    try:
        return FileIndex.whole(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _holds(block: FunctionBlock | None, site: Site) -> bool:
    return block is not None and block.line <= site.def_line and site.line <= block.line + block.text.count("\n")


def _function(index: FileIndex, site: Site) -> FunctionBlock | None:
    if not site.class_name:
        return index.functions.get(site.method)
    owner = index.classes.get(site.class_name)
    return owner.methods.get(site.method) if owner else None


def _excerpt(path: str, block: FunctionBlock | None) -> Excerpt | None:
    return Excerpt(path, block.line, block.text.rstrip()) if block else None


def _elsewhere(site: Site, text: str, original: Excerpt | None) -> Iterator[Excerpt]:
    """The lines around each place that takes part in the verdict and is not in the function itself."""
    inside = range(original.line, original.line + original.text.count("\n") + 1) if original else range(0)
    outside = [line for line in sorted(marks(site)) if line not in inside]
    lines = text.split("\n") if outside else []
    done = 0
    for line in outside:
        if done < line <= len(lines):
            start, done = max(1, done + 1, line - _AROUND), min(len(lines), line + _AROUND)
            yield Excerpt(site.file, start, "\n".join(lines[start - 1 : done]))
