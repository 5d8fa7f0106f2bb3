"""The report for people: counts, what stands between heads and losses, then every rejection by its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from fusegen.codegen.reasons import REASONS
from fusegen.codegen.records import DELEGATED, MATCH, REJECT, ScanReport, Site
from fusegen.codegen.report.pen import VERDICT_COLORS, Pen
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.wording import (
    chain_shape,
    operation_name,
    ordered_sites,
    place,
    plural,
    reason_text,
    silent_files,
    site_count,
    verdict_text,
)


def render(report: ScanReport, presentation: Presentation) -> str:
    """Sections that have nothing to say are left out; `-v` lists delegated sites and what is out of scope."""
    pen = Pen(presentation.color)
    sites = ordered_sites(report)
    sections = [
        _summary(report, sites, pen),
        _between(sites, pen),
        _rejections(sites, pen),
        _delegated(sites, pen, presentation.verbosity),
        _without_site(report, pen, presentation.verbosity),
        _failures(report, pen),
    ]
    return "\n".join("\n".join(lines) + "\n" for lines in map(list, sections) if lines)


def _summary(report: ScanReport, sites: list[Site], pen: Pen) -> Iterator[str]:
    origin = f"{report.package} {report.version or '(unknown version)'}"
    yield pen("bold", f"{origin}: {site_count(report)}")
    if sites:
        yield ""
    for verdict in (MATCH, REJECT, DELEGATED):
        number = sum(site.verdict == verdict for site in sites)
        if number:
            share = f"{100 * number / len(sites):5.1f} %"
            yield f"  {pen(VERDICT_COLORS[verdict], f'{verdict:<10}')} {number:>4}  {pen('dim', share)}"


def _between(sites: list[Site], pen: Pen) -> Iterator[str]:
    matched = [site for site in sites if site.verdict == MATCH]
    if not matched:
        return
    operations = Counter(
        name for site in matched if site.primary for name in {operation_name(step) for step in site.primary.chain}
    )
    if operations:
        yield pen("bold", "Operations between head and loss, in matches")
        yield from _counted(operations)
        yield ""
    yield pen("bold", "Chains, from head to loss")
    yield from _counted(Counter(map(chain_shape, matched)))


def _rejections(sites: list[Site], pen: Pen) -> Iterator[str]:
    groups: dict[str, list[Site]] = {}
    for site in sites:
        if site.verdict == REJECT:
            groups.setdefault(site.code or "no code", []).append(site)
    for number, code in enumerate(sorted(groups)):
        reason = REASONS.get(code)
        if number:
            yield ""
        title = f": {reason.summary}" if reason else ""
        yield f"{pen('red', code)}{pen('bold', title)} ({plural(len(groups[code]), 'site')})"
        for site in groups[code]:
            yield f"  {pen('cyan', place(site))}  {site.id}"
            yield f"    {_apart_from(reason.summary if reason else '', reason_text(site))}"
            for line in (site.excerpt or "").splitlines():
                yield f"    {pen('dim', '|')} {line}"
        if reason:
            yield f"  {pen('dim', 'would help:')} {reason.remedy}  {pen('dim', f'(fusegen rule {code})')}"


def _apart_from(title: str, text: str) -> str:
    """`text` without the words of the title that it stands under."""
    return text.removeprefix(title).removeprefix(": ") or text


def _delegated(sites: list[Site], pen: Pen, verbosity: int) -> Iterator[str]:
    inner = [site for site in sites if site.verdict == DELEGATED]
    if not inner:
        return
    yield pen("bold", "Delegated to an inner module that gets the labels")
    if verbosity > 0:
        for site in inner:
            yield f"  {pen('cyan', place(site))}  {site.id}  {verdict_text(site)}"
    else:
        yield from _counted(Counter(site.delegated_to or "an inner module" for site in inner))


def _without_site(report: ScanReport, pen: Pen, verbosity: int) -> Iterator[str]:
    silent = list(silent_files(report))
    if not silent:
        return
    yield pen(
        "bold", f"No site, though labels or a loss are mentioned: {plural(len(silent), 'file')}, for these reasons"
    )
    yield from _counted(Counter(why for _, whys in silent for why in whys))
    if verbosity < 1:
        yield f"  {pen('dim', '-v lists them')}"
        return
    for file, whys in silent:
        if not file.asides:
            yield f"  {pen('cyan', file.path)}  {'; '.join(whys)}"
        for aside in file.asides:
            yield f"  {pen('cyan', f'{file.path}:{aside.line}')}  {aside.function}: {aside.why}"


def _failures(report: ScanReport, pen: Pen) -> Iterator[str]:
    if not report.failures:
        return
    yield pen("bold", "Not read")
    for failure in report.failures:
        kind = "internal error: " if failure.internal else ""
        yield f"  {pen('red', f'{failure.file}:{failure.line}')}  {kind}{failure.message}"


def _counted(counts: Counter[str]) -> Iterable[str]:
    return (f"  {number:>4}  {name}" for name, number in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
