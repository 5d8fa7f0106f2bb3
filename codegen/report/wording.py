"""How sites, chains and places read in every format for people.

`models/x/modeling_x.py:480:13` names a line and a column that both count from 1, as editors do; the records
count columns from 0.
"""

from __future__ import annotations

from collections.abc import Iterator

from fusegen.codegen.records import DELEGATED, REJECT, FileReport, Operation, ScanReport, Site, VocabularyLoss


def ordered_sites(report: ScanReport) -> list[Site]:
    """All sites by file, line, column and id, whatever order the scan had."""
    return sorted(report.sites, key=lambda site: (site.file, site.line, site.column, site.id))


def position(site: Site) -> tuple[int, int]:
    """Line and column, from 1, of what the verdict is about: the refused spot of a rejection, else the loss."""
    if site.verdict == REJECT and site.at_line:
        return site.at_line, (site.at_column or 0) + 1
    return site.line, site.column + 1


def place(site: Site) -> str:
    line, column = position(site)
    return f"{site.file}:{line}:{column}"


def operation_name(step: Operation) -> str:
    return step.op + ("?" if step.when else "")


def operation_text(step: Operation) -> str:
    """`soft_cap(cap=30.0) if self.config.cap is not None`."""
    arguments = ", ".join(f"{name}={value}" for name, value in step.arguments)
    return step.op + (f"({arguments})" if arguments else "") + (f" if {step.when}" if step.when else "")


def loss_text(loss: VocabularyLoss) -> str:
    return f"{loss.kind}({loss.labels})"


def loss_arguments(loss: VocabularyLoss) -> list[str]:
    """What the loss gets besides logits and labels: `["vocab_size=self.vocab_size", "**kwargs"]`."""
    size = [f"vocab_size={loss.vocab_size}"] if loss.vocab_size else []
    return size + [name + value if name.startswith("*") else f"{name}={value}" for name, value in loss.keywords]


def loss_call_text(loss: VocabularyLoss) -> str:
    """`causal(shifted) by self.loss_function(labels, vocab_size=self.vocab_size, **kwargs)`."""
    return f"{loss_text(loss)} by {loss.call}({', '.join([loss.label_source, *loss_arguments(loss)])})"


def chain_shape(site: Site) -> str:
    """What stands between head and loss, without the head's name: `scale > soft_cap? > causal(shifted)`."""
    loss = site.primary
    if loss is None:
        return "no loss"
    return " > ".join([*(operation_name(step) for step in loss.chain), loss_text(loss)])


def chain_text(site: Site) -> str:
    """`self.lm_head > scale > soft_cap? > causal(shifted)`, with a count if the site has more losses."""
    loss = site.primary
    head = loss.head.expression if loss and loss.head else "?"
    more = f"  (+{len(site.losses) - 1} more)" if len(site.losses) > 1 else ""
    return f"{head} > {chain_shape(site)}{more}"


def reason_text(site: Site) -> str:
    return site.reason or "no reason was recorded"


def spans(text: str) -> list[tuple[str, bool]]:
    """The parts of a message, each with whether it is code, which stands between backticks; without, all is prose."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return [(text, False)]
    return [(part, number % 2 == 1) for number, part in enumerate(parts) if part]


def verdict_text(site: Site) -> str:
    """What a one-line report says of a site after its id."""
    if site.verdict == REJECT:
        return reason_text(site)
    if site.verdict == DELEGATED:
        return f"to {site.delegated_to or 'an inner module'}"
    return chain_text(site)


def silent_files(report: ScanReport) -> Iterator[tuple[FileReport, tuple[str, ...]]]:
    """Files that mention labels or a loss and have no site, each with the reasons that its functions give."""
    for file in report.files:
        if is_silent(file):
            whys = tuple(dict.fromkeys(aside.why for aside in file.asides))
            yield file, whys or ("no function was found that computes a loss or hands labels on",)


def is_silent(file: FileReport) -> bool:
    """Whether a file mentions labels or a loss and has no site, shown or not."""
    return file.mentions_labels and not (file.sites or file.hidden)


def site_count(report: ScanReport) -> str:
    """`417 sites in 300 modeling files`, `3 of 417 sites in …` where the others are left out."""
    shown, hidden = len(report.sites), report.hidden
    sites = f"{shown} of {plural(shown + hidden, 'site')}" if hidden else plural(shown, "site")
    return f"{sites} in {plural(len(report.files), 'modeling file')}"


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
