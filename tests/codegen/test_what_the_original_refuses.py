"""Calls that raise in the original: fusegen refuses them, or emits what raises as well, and never drops them."""

from __future__ import annotations

import ast
import textwrap

import pytest

from fusegen.codegen.losses import DEFAULT_MAPPING, loss_mapping
from fusegen.codegen.pipeline import read_index
from fusegen.codegen.plan import PlanRefusal, plan
from fusegen.codegen.records import Site
from fusegen.codegen.render import fused_function

FILE = """\
import torch
from torch import nn
from torch.nn import CrossEntropyLoss
import torch.nn.functional as F


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.criterion = CrossEntropyLoss()
        self.two = 2.0
        self.given = config.cap

    def forward(self, input_ids=None, labels=None, flag=None, cap=None, **kwargs):
        hidden = self.model(input_ids)[0]
{body}
        return CausalLMOutput(loss=loss, logits=logits)
"""
LOGITS = "logits = self.lm_head(hidden)\n"
LOSS = "self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)"
FLAT = "logits.view(-1, self.config.vocab_size), labels.view(-1)"


def outcome(body: str) -> tuple[Site, PlanRefusal | str]:
    """The site of a forward with these statements, and what is emitted for it ("" where it is no match)."""
    text = FILE.replace("{body}", "\n".join(f"        {line}" for line in body.split("\n")))
    report, matches, _ = read_index("models/bird/modeling_bird.py", text, DEFAULT_MAPPING)
    assert not report.failures
    (site,) = [site for site in report.sites if site.method == "forward"]
    for each, analysis in matches:
        if each is site:
            made = plan(site, analysis)
            return site, made if isinstance(made, PlanRefusal) else fused_function(made, analysis.block)
    return site, ""


def with_loss(loss: str, before: str = LOGITS) -> str:
    return f"{before}loss = None\nif labels is not None:\n    loss = {loss}"


def guard(text: PlanRefusal | str) -> str:
    assert isinstance(text, str)
    tests = (node.test for node in ast.walk(ast.parse(textwrap.dedent(text))) if isinstance(node, ast.If))
    lambdas = [node for test in tests for node in ast.walk(test) if isinstance(node, ast.Lambda)]
    return ast.unparse(lambdas[0].body) if lambdas else ""


@pytest.mark.parametrize(
    ("loss", "code"),
    [
        (f"CrossEntropyLoss()({FLAT}, num_items_in_batch=flag)", "FG305"),
        (f"CrossEntropyLoss()({FLAT}, vocab_size=7)", "FG305"),
        (f"CrossEntropyLoss()({FLAT}, reduction='sum')", "FG305"),
        (f"CrossEntropyLoss()({FLAT}, target=labels)", "FG305"),
        (f"CrossEntropyLoss()({FLAT}, -100)", "FG305"),
        (f"CrossEntropyLoss()({FLAT}, **kwargs)", "FG302"),
        (f"self.criterion({FLAT}, size_average=True)", "FG305"),
        (f"CrossEntropyLoss(None, weight=None)({FLAT})", "FG305"),
        (f"CrossEntropyLoss(None, None, 0, None, 'mean', 0.0, 1)({FLAT})", "FG305"),
        (f"F.cross_entropy({FLAT}, num_items_in_batch=flag)", "FG305"),
        (f"F.cross_entropy({FLAT}, input=logits)", "FG305"),
        (f"F.cross_entropy({FLAT}, None, weight=None)", "FG305"),
        (f"F.cross_entropy({FLAT}, **kwargs)", "FG302"),
        ("F.nll_loss(F.log_softmax(logits.view(-1, 9), dim=-1), labels.view(-1), vocab_size=7)", "FG305"),
        ("F.nll_loss(F.log_softmax(logits.view(-1, 9), dim=-1), labels.view(-1), target=labels)", "FG305"),
        ("F.nll_loss(F.log_softmax(logits.view(-1, 9), dim=-1), labels.view(-1), **kwargs)", "FG302"),
        ("F.nll_loss(F.log_softmax(logits.view(-1, 9), dim=-1, scale=2), labels.view(-1))", "FG305"),
        ("F.nll_loss(logits.view(-1, 9).log_softmax(-1, dim=-1), labels.view(-1))", "FG305"),
        ("self.loss_function(logits, labels, self.config.vocab_size, vocab_size=7, **kwargs)", "FG302"),
        ("self.loss_function(logits, labels, self.config.vocab_size, **kwargs, vocab_size=7)", "FG302"),
        ("self.loss_function(logits, labels, self.config.vocab_size, labels=labels)", "FG302"),
        ("self.loss_function(logits, labels, 9, None, num_items_in_batch=flag)", "FG302"),
        (f"{LOSS[:-1]}, num_items_in_batch=True)", "FG305"),
        (f"{LOSS[:-1]}, num_items_in_batch='4')", "FG305"),
        (f"{LOSS[:-1]}, ignore_index=None)", "FG305"),
        (f"{LOSS[:-1]}, ignore_index=1.5)", "FG305"),
        (f"CrossEntropyLoss(ignore_index=True)({FLAT})", "FG305"),
        (f"CrossEntropyLoss(reduction=None)({FLAT})", "FG305"),
        (f"F.cross_entropy({FLAT}, label_smoothing=None)", "FG305"),
        ("CrossEntropyLoss()(logits.view(not 1, self.config.vocab_size), labels.view(-1))", "FG104"),
        ("CrossEntropyLoss()(logits.view(True, self.config.vocab_size), labels.view(-1))", "FG104"),
        ("CrossEntropyLoss()(logits.view(-1.0, self.config.vocab_size), labels.view(-1))", "FG104"),
        ("CrossEntropyLoss()(logits.view(3, self.config.vocab_size), labels.view(-1))", "FG104"),
        ("CrossEntropyLoss()(logits.view(-1, -1), labels.view(-1))", "FG104"),
        ("CrossEntropyLoss()(logits.view(-1, None), labels.view(-1))", "FG104"),
        ("CrossEntropyLoss()(logits.view(), labels.view(-1))", "FG104"),
    ],
)
def test_a_call_that_raises_is_refused(loss: str, code: str) -> None:
    site, _ = outcome(with_loss(loss))
    assert (site.verdict, site.code) == ("reject", code), site.reason


@pytest.mark.parametrize(
    "loss",
    [
        f"CrossEntropyLoss()({FLAT})",
        "CrossEntropyLoss()(target=labels.view(-1), input=logits.view(-1, self.config.vocab_size))",
        "self.criterion(logits.view(labels.numel(), self.config.vocab_size), labels.reshape(-1))",
        f"F.cross_entropy({FLAT}, ignore_index=0, reduction='sum', label_smoothing=0.1)",
        f"{LOSS[:-1]}, num_items_in_batch=4)",
        f"{LOSS[:-1]}, num_items_in_batch=2.5, ignore_index=0)",
        f"{LOSS[:-1]}, num_items_in_batch=None)",
    ],
)
def test_a_call_that_runs_stays(loss: str) -> None:
    site, text = outcome(with_loss(loss))
    assert site.verdict == "match", site.reason
    assert isinstance(text, str)


@pytest.mark.parametrize("view", ["view()", "view(5)", "view(-1.0)", "flatten(3)", "contiguous(1)", "view(not 1)"])
def test_a_view_of_labels_that_may_raise_is_kept(view: str) -> None:
    _, text = outcome(with_loss(f"CrossEntropyLoss()(logits.view(-1, self.config.vocab_size), labels.{view})"))
    assert isinstance(text, str)
    assert text.count(f"labels.{view}") == 2


@pytest.mark.parametrize(
    ("operation", "condition"),
    [
        ("logits = logits / self.config.cap", "self.config.cap is not None"),
        ("logits = logits * self.config.cap", "self.config.cap is not None"),
        ("logits = logits * getattr(self.config, 'cap', None)", "getattr(self.config, 'cap', None) is not None"),
        ("logits = torch.tanh(logits / self.config.cap) * self.config.cap", "self.config.cap is not None"),
        ("logits = logits / self.given", "self.given is not None"),
        ("logits = logits / self.two", ""),
        ("logits = logits / 2.0", ""),
        ("logits = logits / (self.config.cap * 2)", ""),
        ("if self.config.cap is not None:\n    logits = logits / self.config.cap", ""),
        ("if self.config.cap:\n    logits = logits / self.config.cap", ""),
        ("if flag:\n    logits = logits / self.config.cap", "not flag or self.config.cap is not None"),
    ],
)
def test_an_operand_that_must_be_a_number_is_asked_for(operation: str, condition: str) -> None:
    _, text = outcome(f"{with_loss(LOSS, f'{LOGITS}{operation}{chr(10)}')}")
    assert guard(text) == condition


@pytest.mark.parametrize(
    ("test", "bound"),
    [
        ("not not labels is not None", "labels"),
        ("labels is not True", "kwargs.pop('y')"),
        ("not labels is None", "labels"),
        ("flag", "labels"),
    ],
)
def test_labels_that_are_bound_under_the_condition_are_not_read_before(test: str, bound: str) -> None:
    loss = "self.loss_function(logits, y, self.config.vocab_size)"
    _, text = outcome(f"{LOGITS}loss = None\nif {test}:\n    y = {bound}\n    loss = {loss}")
    assert isinstance(text, PlanRefusal)
    assert (text.code, "`y` may be unbound" in text.detail) == ("FG601", True)


@pytest.mark.parametrize("otherwise", ["", "logits = None\n"])
@pytest.mark.parametrize(("test", "guarded"), [("not self.training", "not self.training"), ("flag", "flag")])
def test_logits_that_are_there_under_a_condition_are_guarded_by_it(otherwise: str, test: str, guarded: str) -> None:
    site, text = outcome(with_loss(LOSS, f"{otherwise}if {test}:\n    logits = self.lm_head(hidden)\n"))
    assert site.verdict == "match"
    assert guard(text) == guarded


def test_logits_that_are_there_under_a_condition_which_cannot_be_asked_are_refused() -> None:
    site, _ = outcome(with_loss(LOSS, "if hidden.sum() > 0:\n    logits = self.lm_head(hidden)\n"))
    assert (site.verdict, site.code) == ("reject", "FG204")


def test_logits_under_the_condition_of_the_loss_need_no_guard() -> None:
    head = "logits = None\nif labels is not None:\n    logits = self.lm_head(hidden)\n"
    site, _ = outcome(with_loss(LOSS, head))
    assert (site.verdict, site.guards) == ("match", ())


def test_without_a_file_of_losses_the_names_that_all_releases_share_are_meant() -> None:
    assert loss_mapping(None).names == DEFAULT_MAPPING
    assert not loss_mapping(None).problem
