"""A report with one site of every kind, built by hand."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusegen.codegen.records import (
    DELEGATED,
    MATCH,
    REJECT,
    Aside,
    Failure,
    FileReport,
    Head,
    Operation,
    ScanReport,
    Site,
    Use,
    VocabularyLoss,
)
from fusegen.codegen.report import Presentation


def make_loss(*chain: Operation, line: int = 480, labels: str = "shifted", kind: str = "causal") -> VocabularyLoss:
    head = Head("self.lm_head", "self.lm_head", "hidden_states", rows="config.vocab_size", bias="no", line=line - 2)
    call = "self.loss_function"
    return VocabularyLoss(kind, call, labels, "labels", "self.vocab_size", (("**", "kwargs"),), head, chain, line, 12)


def make_site(model: str, class_name: str, verdict: str, line: int = 480, **details: object) -> Site:
    file = f"models/{model}/modeling_{model}.py"
    id = f"{model}.{class_name}.forward"
    return Site(id, model, file, class_name, "forward", line, 12, verdict, **details)  # type: ignore[arg-type]


SCALE = Operation("scale", (("multiply", "self.logit_scale"),), None, 478)
SOFT_CAP = Operation("soft_cap", (("cap", "self.cap"),), "self.cap is not None", 479)

SITES = {
    "match": make_site(
        "cohere",
        "CohereForCausalLM",
        MATCH,
        losses=(make_loss(SCALE, SOFT_CAP),),
        guards=("self.lm_head is a plain linear",),
        uses=(Use("output", "logits", 484),),
        def_line=450,
    ),
    "plain": make_site("llama", "LlamaForCausalLM", MATCH, 472, losses=(make_loss(line=472),)),
    "several": make_site(
        "csm", "CsmForCausalLM", MATCH, 90, losses=(make_loss(line=90), make_loss(line=95, labels="aligned"))
    ),
    "reject": make_site(
        "chameleon",
        "ChameleonForCausalLM",
        REJECT,
        1071,
        losses=(make_loss(line=1071),),
        code="FG203",
        reason="entries of the logits are overwritten before the loss: `a | b`, 100%",
        excerpt="logits[:, :, image_tokens] = lowest",
        at_line=1067,
        at_column=8,
    ),
    "delegated": make_site("llava", "LlavaForCausalLM", DELEGATED, 33, delegated_to="self.language_model"),
}

REPORT = ScanReport(
    "transformers",
    "5.23.0",
    (
        *(
            FileReport(site.file, (site,), mentions_labels=True)
            for site in sorted(SITES.values(), key=lambda site: site.file)
        ),
        FileReport(
            "models/vit/modeling_vit.py",
            asides=(Aside("ViTForImageClassification.forward", 70, "the loss runs over classes"),),
            mentions_labels=True,
        ),
        FileReport("models/whale/modeling_whale.py", mentions_labels=True),
        FileReport("models/zoo/modeling_zoo.py"),
    ),
)

BROKEN = ScanReport(
    "transformers",
    None,
    (
        FileReport("models/a/modeling_a.py", failures=(Failure("models/a/modeling_a.py", 0, "cannot be read"),)),
        FileReport(
            "models/b/modeling_b.py", failures=(Failure("models/b/modeling_b.py", 7, "KeyError: 'x'\n  at", True),)
        ),
    ),
)


@pytest.fixture
def sites() -> dict[str, Site]:
    return SITES


@pytest.fixture
def report() -> ScanReport:
    return REPORT


@pytest.fixture
def broken() -> ScanReport:
    return BROKEN


@pytest.fixture
def empty() -> ScanReport:
    return ScanReport("transformers", "5.23.0")


@pytest.fixture
def plain() -> Presentation:
    return Presentation("0.1.0")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real browser; a test that wants it is skipped where there is none."""
    path = Path(__file__).parents[2] / "benchmarks" / "chromium.py"
    spec = importlib.util.spec_from_file_location("chromium", path)
    assert spec is not None
    assert spec.loader is not None
    chromium = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(chromium)
    if chromium.executable() is None:
        pytest.skip("no Chromium on the PATH (apt-get install chromium)")
    with chromium.Browser() as started:
        yield started
