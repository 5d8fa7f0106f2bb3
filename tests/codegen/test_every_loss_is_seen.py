"""A cross-entropy over what a head makes is a site, whatever its class and its labels are called; nothing is silent."""

from __future__ import annotations

import pytest

from fusegen.codegen import patience
from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.pipeline import read_file
from fusegen.codegen.records import FileReport

IMPORTS = """\
import functools
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn import CrossEntropyLoss
from torch.nn.functional import cross_entropy as renamed
from torch.nn.utils import skip_init
from somewhere import fused_ce, ParallelCrossEntropy, FusedLoss

assigned = F.cross_entropy


"""
INIT = """\
class Bird(nn.Module):
    def __init__(self, config, criterion=None):
        super().__init__()
        self.body = Body(config)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
"""
LOGITS = "        logits = self.head(self.body(x))\n"
FLAT = "logits.view(-1, logits.size(-1)), y.view(-1)"


def bird(loss: str, *, init: str = "", arguments: str = "x, y", name: str = "forward", before: str = LOGITS) -> str:
    body = "".join(f"        {line}\n" for line in loss.split("\n"))
    made = "".join(f"        {line}\n" for line in init.split("\n") if line)
    return f"{IMPORTS}{INIT}{made}\n    def {name}(self, {arguments}):\n{before}{body}"


def read(text: str) -> FileReport:
    compile(text, "x", "exec")
    report = read_file("models/bird/modeling_bird.py", text, DEFAULT_MAPPING)
    assert not report.failures
    return report


def with_head(made: str, **options: str) -> str:
    return bird(f"return F.cross_entropy({FLAT})", **options).replace(
        "nn.Linear(config.width, config.vocab_size, bias=False)", made
    )


CLASS_OF_A_HEAD = (
    "class Cast(nn.Linear):\n    def forward(self, x):\n        return F.linear(x, self.weight.to(x.dtype))\n\n\n"
)
SEEN = {
    "labels that are called y": (bird(f"return F.cross_entropy({FLAT})"), "match", ""),
    "a training step": (bird(f"return F.cross_entropy({FLAT})", name="training_step"), "match", ""),
    "another name for the function": (bird(f"return renamed({FLAT})"), "match", ""),
    "no word of labels or a loss": (
        bird(f"return F.cross_entropy({FLAT})").replace(", FusedLoss", "").replace("CrossEntropyLoss", "Linear"),
        "match",
        "",
    ),
    "another name that is assigned": (bird(f"return assigned({FLAT})"), "FG302", "`assigned` gets"),
    "some of its arguments": (
        bird(f"loss_of = functools.partial(F.cross_entropy, ignore_index=0)\nreturn loss_of({FLAT})"),
        "FG302",
        "functools.partial",
    ),
    "a function of elsewhere": (bird("return fused_ce(logits, y)"), "FG302", "`somewhere.fused_ce` gets"),
    "an object of elsewhere": (
        bird("return self.ce(logits, y)", init="self.ce = ParallelCrossEntropy()"),
        "FG302",
        "`self.ce` gets",
    ),
    "a criterion that is given": (
        bird(f"return self.criterion({FLAT})", init="self.criterion = criterion"),
        "FG302",
        "`self.criterion` gets",
    ),
    "a criterion in a dict of modules": (
        bird(f"return self.losses['ce']({FLAT})", init="self.losses = nn.ModuleDict({'ce': nn.CrossEntropyLoss()})"),
        "FG302",
        "gets logits and labels",
    ),
    "one of several criteria": (
        bird(
            "if x.is_cuda:\n    loss_of = FusedLoss()\nelse:\n    loss_of = nn.CrossEntropyLoss()\n"
            f"return loss_of({FLAT})"
        ),
        "FG302",
        "gets logits and labels",
    ),
    "written by hand": (
        bird("return -F.log_softmax(logits, -1).gather(-1, y.unsqueeze(-1)).mean()"),
        "FG302",
        "by hand",
    ),
    "in a lambda": (
        bird(
            "loss_of = lambda h: F.cross_entropy(self.head(h).flatten(0, 1), y.flatten())\nreturn loss_of(self.body(x))"
        ),
        "FG204",
        "lambda",
    ),
    "in a loop": (
        bird("loss = 0\nfor a, b in zip(logits, y):\n    loss = loss + F.cross_entropy(a, b)\nreturn loss"),
        "FG301",
        "`for`",
    ),
    "a class under a condition": (
        IMPORTS
        + "if torch.cuda.is_available():\n"
        + "".join(f"    {line}\n" for line in bird(f"return F.cross_entropy({FLAT})")[len(IMPORTS) :].splitlines()),
        "FG209",
        "under a condition",
    ),
    "a class in a function": (
        IMPORTS
        + "def make():\n"
        + "".join(f"    {line}\n" for line in bird(f"return F.cross_entropy({FLAT})")[len(IMPORTS) :].splitlines()),
        "FG204",
        "functiondef",
    ),
    "a linear of the file's own": (
        with_head("Cast(config.width, config.vocab_size)").replace(INIT[:10], CLASS_OF_A_HEAD + INIT[:10], 1),
        "FG101",
        "`self.head.weight.to(",
    ),
    "a linear of elsewhere": (with_head("ColumnLinear(config.width, config.vocab_size)"), "FG101", "`self.head`"),
    "a sequence of modules": (
        with_head("nn.Sequential(nn.LayerNorm(8), nn.Linear(config.width, config.vocab_size))"),
        "FG101",
        "`self.head`",
    ),
    "a linear that is not drawn": (
        with_head("skip_init(nn.Linear, config.width, config.vocab_size, bias=False)"),
        "match",
        "",
    ),
    "a weight that is computed": (
        bird(
            f"return F.cross_entropy({FLAT})",
            before="        logits = F.linear(self.body(x), F.normalize(self.head.weight))\n",
        ),
        "FG101",
        "normalize(self.head.weight)`, no parameter of the head",
    ),
    "a number of rows": (with_head("nn.Linear(config.width, 50257)"), "match", ""),
    "rows of another name in a language model": (
        with_head("nn.Linear(config.width, config.embedding_size)").replace("class Bird(", "class BirdForCausalLM("),
        "match",
        "",
    ),
    "logits of an inner language model": (
        bird(
            "return F.cross_entropy(logits.view(-1, self.config.embedding_size), y.view(-1))",
            before="        logits = self.body.forward(x).logits\n",
        ).replace("class Bird(", "class BirdForCausalLM("),
        "FG102",
        "`self.body.forward`",
    ),
}

ASIDES = {
    "a classifier": (
        with_head("nn.Linear(config.width, config.num_labels)"),
        "the head has config.num_labels rows, which is no vocabulary",
    ),
    "rows of which nothing is known": (
        with_head("nn.Linear(config.width, config.n_out)"),
        "the head has config.n_out rows, which are not shown to be a vocabulary",
    ),
    "another loss": (
        bird("return F.mse_loss(logits, labels)", arguments="x, labels"),
        "`torch.nn.functional.mse_loss` is not shown to be a cross-entropy over a vocabulary",
    ),
    "a base of which nothing is known": (
        f"{IMPORTS}{INIT}\n    def forward(self, x, labels=None):\n        return super().forward(x, labels=labels)\n",
        "labels are mentioned, and what `super()` does with them is not read here",
    ),
}


@pytest.mark.parametrize(("text", "verdict", "reason"), SEEN.values(), ids=SEEN)
def test_what_computes_one_is_a_site(text: str, verdict: str, reason: str) -> None:
    (site,) = read(text).sites
    assert (site.code or site.verdict) == verdict
    assert reason in (site.reason or "")


@pytest.mark.parametrize(("text", "why"), ASIDES.values(), ids=ASIDES)
def test_what_computes_none_is_an_aside_with_a_true_reason(text: str, why: str) -> None:
    report = read(text)
    assert not report.sites
    assert [aside.why for aside in report.asides] == [why]


def test_labels_that_a_method_prepares_are_delegated_to_the_base() -> None:
    text = f"""{IMPORTS}class BirdForCausalLM(OtherForCausalLM):
    def forward(self, input_ids=None, labels=None):
        input_ids, labels = self.prepare(input_ids, labels)
        return super().forward(input_ids=input_ids, labels=labels)
"""
    (site,) = read(text).sites
    assert (site.verdict, site.delegated_to) == ("delegated", "super().forward")


def test_a_function_that_takes_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SECONDS", 0.3)
    branches = "\n".join(f"if self.a{i}:\n    y = y + y" for i in range(40))
    text = bird(f"{branches}\nreturn F.cross_entropy({FLAT})")
    report = read_file("models/bird/modeling_bird.py", text, DEFAULT_MAPPING)
    assert not report.sites
    (failure,) = report.failures
    assert failure.message.startswith("Bird.forward is not read: it takes more than")
    assert not failure.internal
