"""Every file under tests/cases/linear_cross_entropy: its leading comments say what the scan must find in it.

    # verdict: match                    or: reject FG203 at 17 | delegated to self.decoder | none
    # head: self.cls in self.cls.predictions.decoder       (what is called, and the linear behind it)
    # before: self.cls.predictions.transform               (modules of a composite head, first applied first)
    # bias: yes                                            (yes | config; left out: no)
    # labels: shifted
    # chain: scale(multiply=self.a) > soft_cap(cap=self.c) when self.c is not None
    # keywords: ignore_index=0, **kwargs                   (further arguments of the loss)
    # guards: self.config.legacy; a == b
    # aside: part of the reason why a file has no site

The chain reads from the hidden states to the loss. With several losses, each begins with `# loss: <spelling>`.
Lines count from the top of the file. The site is the last `forward` of the file.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.pipeline import read_file
from fusegen.codegen.records import FileReport, Site, VocabularyLoss

CASES = sorted((Path(__file__).parents[1] / "cases" / "linear_cross_entropy").glob("*.py"))


def read(path: Path) -> str:
    return path.read_bytes().decode("utf-8")


def expectation(text: str) -> list[str]:
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return lines


def described(report: FileReport) -> list[str]:
    """A report in the words of a case's leading comments."""
    sites = [site for site in report.sites if site.method == "forward"]
    if not sites:
        return ["verdict: none", *(f"aside: {aside.why}" for aside in report.asides[-1:])]
    site = sites[-1]
    if site.verdict == "delegated":
        return [f"verdict: delegated to {site.delegated_to}"]
    if site.verdict == "reject":
        return [f"verdict: reject {site.code} at {site.at_line}"]
    return ["verdict: match", *_losses(site), f"guards: {'; '.join(site.guards) or 'none'}"]


def _losses(site: Site) -> list[str]:
    lines: list[str] = []
    for loss in site.losses:
        if len(site.losses) > 1:
            lines.append(f"loss: {loss.call}")
        lines += _loss(loss)
    return lines


def _loss(loss: VocabularyLoss) -> list[str]:
    head = loss.head
    assert head is not None, "a match has a head"
    lines = [
        f"head: {head.expression}" if head.expression == head.linear else f"head: {head.expression} in {head.linear}"
    ]
    if head.before:
        lines.append(f"before: {' > '.join(head.before)}")
    if head.bias != "no":
        lines.append(f"bias: {head.bias}")
    lines.append(f"labels: {loss.labels}")
    lines.append(f"chain: {chain_text(loss)}")
    if loss.keywords:
        spelled = (f"**{value}" if name == "**" else f"{name}={value}" for name, value in loss.keywords)
        lines.append(f"keywords: {', '.join(spelled)}")
    return lines


def chain_text(loss: VocabularyLoss) -> str:
    operations = []
    for operation in loss.chain:
        arguments = ", ".join(f"{name}={value}" for name, value in operation.arguments)
        condition = f" when {operation.when}" if operation.when else ""
        operations.append(f"{operation.op}({arguments}){condition}")
    return " > ".join(operations) or "none"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    text = read(path)
    compile(text, path.name, "exec")
    report = read_file("models/bird/modeling_bird.py", text, DEFAULT_MAPPING)
    assert not report.failures
    assert described(report) == expectation(text)


def test_as_many_refusals_as_matches() -> None:
    verdicts = [expectation(read(path))[0].split()[1] for path in CASES]
    assert verdicts.count("reject") >= verdicts.count("match") >= 100


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_refused_case_says_where(path: Path) -> None:
    text = read(path)
    report = read_file("models/bird/modeling_bird.py", text, DEFAULT_MAPPING)
    for site in report.sites:
        if site.verdict == "reject":
            assert site.reason
            assert site.excerpt
            assert site.at_line is not None
            assert site.excerpt in text.replace("\r\n", "\n").split("\n")[site.at_line - 1]


def test_a_case_keeps_the_line_ends_that_it_is_about() -> None:
    (crlf,) = [path for path in CASES if path.stem == "text_crlf"]
    assert b"\r\n" in crlf.read_bytes()
