"""One site in full: what was recovered, then the source lines with the chain beside them.

head        478 |     logits = self.lm_head(hidden_states)
scale       479 |     logits = logits * self.logit_scale
loss        483 |     loss = self.loss_function(logits, labels, self.vocab_size)
"""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO

from fusegen.codegen.reasons import REASONS
from fusegen.codegen.records import DELEGATED, MATCH, REJECT, Site, VocabularyLoss
from fusegen.codegen.report.pen import VERDICT_COLORS, Pen
from fusegen.codegen.report.wording import (
    loss_arguments,
    loss_text,
    operation_name,
    operation_text,
    place,
    reason_text,
)
from fusegen.codegen.visible import printable, visible

_CONTEXT = 1
_TAB = "\t"


def render_site(site: Site, text: str, *, color: bool = False) -> str:
    """The site beside the lines of `text`, the file that it stands in."""
    pen, site = Pen(color), printable(site)
    lines = [f"{pen('bold', site.id)}: {pen(VERDICT_COLORS[site.verdict], site.verdict)}", f"  {place(site)}", ""]
    lines += (f"  {pen('dim', f'{label:<10}')} {said}" for label, said in facts(site))
    lines += ("", *_listing(site, StringIO(text, newline=None).readlines(), pen))
    return "\n".join(lines) + "\n"


def facts(site: Site) -> Iterator[tuple[str, str]]:
    """What was recovered from a site, as labels and what stands under them; an empty label goes on with the last."""
    if site.verdict == REJECT:
        yield "refused", f"{site.code or ''} {reason_text(site)}".strip()
        reason = REASONS.get(site.code or "")
        if reason:
            yield "would help", reason.remedy
    if site.verdict == DELEGATED:
        yield "to", site.delegated_to or "an inner module"
    for number, loss in enumerate(site.losses, start=1):
        if len(site.losses) > 1:
            yield "", f"loss {number} of {len(site.losses)}, line {loss.line}"
        yield from _loss_facts(loss)
    for guard in site.guards:
        yield "if", guard
    for use in site.uses:
        yield "used", f"{use.kind}, line {use.line}: {use.text}"


def _loss_facts(loss: VocabularyLoss) -> Iterator[tuple[str, str]]:
    if loss.head:
        yield "hidden", loss.head.hidden
        behind = "" if loss.head.linear == loss.head.expression else f", ends in {loss.head.linear}"
        rows = f", {loss.head.rows} rows" if loss.head.rows else ""
        yield "head", f"{loss.head.expression}{behind}{rows}, bias: {loss.head.bias}"
        if loss.head.before:
            yield "", f"after {', '.join(loss.head.before)}"
    for number, step in enumerate(loss.chain):
        yield "" if number else "then", operation_text(step)
    yield "loss", f"{loss_text(loss)} by {loss.call}, labels from {loss.label_source}"
    if loss_arguments(loss):
        yield "with", ", ".join(loss_arguments(loss))


def marks(site: Site) -> dict[int, list[str]]:
    """What to write beside each line of the file, in the order of the chain."""
    marked: dict[int, list[str]] = {}
    for loss in site.losses:
        if loss.head:
            marked.setdefault(loss.head.line, []).append("head")
        for step in loss.chain:
            marked.setdefault(step.line, []).append(operation_name(step))
        marked.setdefault(loss.line, []).append("loss")
    for use in site.uses:
        marked.setdefault(use.line, []).append(use.kind)
    if site.verdict != MATCH and not site.losses:
        marked.setdefault(site.line, []).append("labels" if site.verdict == DELEGATED else "loss")
    if site.verdict == REJECT:
        marked.setdefault(site.at_line or site.line, []).append(site.code or REJECT)
    marked.pop(0, None)
    return {line: list(dict.fromkeys(names)) for line, names in marked.items()}


def _listing(site: Site, source: list[str], pen: Pen) -> Iterator[str]:
    marked = marks(site)
    lines = {near for line in marked for near in range(line - _CONTEXT, line + _CONTEXT + 1)}
    lines |= {site.def_line} if site.def_line else set()
    shown = sorted(line for line in lines if 1 <= line <= len(source))
    margin = min((_indent(source[line - 1]) for line in shown if source[line - 1].strip()), default=0)
    width = max((len(", ".join(names)) for names in marked.values()), default=0)
    previous = 0
    for line in shown:
        if previous and line > previous + 1:
            yield f"  {'':<{width}}   {'...':>5}"
        beside = f"{', '.join(marked.get(line, ())):<{width}}"
        text = visible(source[line - 1][margin:].rstrip(), _TAB)
        yield f"  {pen('cyan', beside)}   {line:>5} {pen('dim', '|')} {text}".rstrip()
        previous = line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
