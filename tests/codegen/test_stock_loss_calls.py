"""How a forward calls its stock loss, what it makes of the result, and what chooses the loss meanwhile."""

from __future__ import annotations

import pytest

from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.pipeline import read_index
from fusegen.codegen.plan import PlanRefusal, plan
from fusegen.codegen.records import Site
from fusegen.codegen.render import fused_function

FILE = """\
import torch
from torch import nn
from torch.nn import CrossEntropyLoss
from transformers.modeling_outputs import CausalLMOutput


def choose(module):
    module.loss_type = "ForMaskedLM"


class BirdFor{kind}(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def choose(self):
        self.loss_type = "ForMaskedLM"

    def computed(self, logits, labels, **more):
        return self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **more)

    def both(self, logits, labels):
        loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)
        return loss, self.model.aux

    def forward(self, input_ids=None, labels=None, flag=None, **kwargs):
        hidden = self.model(input_ids)[0]
        logits = self.lm_head(hidden)
        loss, aux = None, None
        if labels is not None:
"""
END = "        return CausalLMOutput(loss=loss, logits=logits, aux=aux)\n"
CALL = "self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)"


def found(body: str, kind: str = "CausalLM") -> tuple[Site, str]:
    """The site of a forward whose loss is computed by `body`, and what is emitted for it."""
    text = FILE.replace("{kind}", kind) + "".join(f"            {line}\n" for line in body.split("\n")) + END
    report, matches, _ = read_index("models/bird/modeling_bird.py", text, DEFAULT_MAPPING)
    assert not report.failures
    (site,) = [site for site in report.sites if site.method == "forward"]
    for each, analysis in matches:
        if each is site:
            result = plan(site, analysis)
            return site, "" if isinstance(result, PlanRefusal) else fused_function(result, analysis.block)
    return site, ""


def with_keyword(argument: str) -> str:
    return f"loss = {CALL[:-1]}, {argument})"


@pytest.mark.parametrize("argument", ["num_items_in_batch=flag", "ignore_index=0", "shift_labels=flag"])
def test_what_a_stock_loss_reads_reaches_the_fused_one(argument: str) -> None:
    site, text = found(with_keyword(argument))
    assert site.verdict == "match"
    assert text.count(argument) == 2


@pytest.mark.parametrize(
    "argument",
    [
        "scale=2.0",
        "softcap=30.0",
        "valid_vocab=7",
        "reduction='sum'",
        "pad_token_id=self.config.pad_token_id",
        "head=None",
    ],
)
def test_a_number_that_a_stock_loss_ignores_is_left_out(argument: str) -> None:
    site, text = found(with_keyword(argument))
    assert site.verdict == "match"
    fused, _, original = text.partition("        else:\n")
    assert argument.split("=")[0] + "=" not in fused.split("causal_lm_loss(")[1]
    assert argument in original


@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        ("hidden_states=hidden", "CausalLM"),
        ("weights=self.lm_head.weight", "CausalLM"),
        ("vocab_bias=self.bias", "CausalLM"),
        ("head=self.lm_head", "CausalLM"),
        ("logits_dtype=torch.float32", "CausalLM"),
        ("divisor=self.model.next()", "CausalLM"),
        ("scale=float(self.model.next())", "CausalLM"),
        ("mask=kwargs", "CausalLM"),
        ("weight=flag", "CausalLM"),
        ("shift_labels=flag", "MaskedLM"),
    ],
)
def test_what_is_meant_for_another_loss_is_refused(argument: str, kind: str) -> None:
    site, _ = found(with_keyword(argument), kind)
    assert (site.verdict, site.code) == ("reject", "FG305")


@pytest.mark.parametrize(
    "body",
    [
        "loss = self.computed(logits, labels, hidden_states=hidden)",
        "loss = self.loss_function(logits, labels, 7, None, -100, flag)",
        "loss = self.loss_function(logits, labels, *flag)",
    ],
)
def test_arguments_of_another_loss_are_refused_wherever_they_stand(body: str) -> None:
    site, text = found(body)
    assert site.verdict == "reject" or not text


def test_a_spread_dictionary_reaches_the_fused_loss_through_what_it_reads() -> None:
    _, text = found(with_keyword("**{'scale': 2.0}"))
    assert '**stock_keywords({"scale": 2.0})' in text


@pytest.mark.parametrize(
    "body",
    [
        f"loss, aux = {CALL}",
        f"loss, *aux = {CALL}",
        f"[loss, aux] = {CALL}",
        f"loss, unused = {CALL}",
        f"loss = {CALL}[0]",
        f"loss = {CALL}['loss']",
        f"loss = {CALL}.loss",
        f"result = {CALL}\nloss = result[0]",
        f"result = {CALL}\nloss, aux = result",
        f"result = {CALL}\nloss = result.loss if flag else result",
        f"result = {CALL}\nloss = result[0] if isinstance(result, tuple) else result",
        f"loss = {CALL}\nloss = loss if flag else loss[0]",
        f"loss = {CALL}.get('loss')",
        f"loss = next(iter({CALL}))",
        f"result = {CALL}\nloss = [each for each in result][0]",
        f"loss = torch.stack([*{CALL}])",
        f"loss = sum(list({CALL}))",
        f"for loss in {CALL}:\n    pass",
        "loss, aux = self.computed(logits, labels)",
        "loss = self.computed(logits, labels)[0]",
        "loss = self.computed(logits, labels).loss",
        "loss = self.both(logits, labels)[0][0]",
    ],
)
def test_a_result_that_has_parts_is_no_stock_loss(body: str) -> None:
    site, _ = found(body)
    assert (site.verdict, site.code) == ("reject", "FG302")


@pytest.mark.parametrize(
    "body",
    [
        f"loss = {CALL}",
        f"loss = {CALL}\nloss = loss.mean()",
        f"loss = {CALL}\nloss = loss + 0.1 * self.model.aux.to(loss.device)",
        f"loss = {CALL}\nloss = loss.to(loss.dtype)",
        f"loss = {CALL}\nloss = loss * flag if flag else loss",
        f"loss = {CALL}\nif loss.requires_grad:\n    aux = 1",
        "loss, aux = self.both(logits, labels)",
        "loss = self.both(logits, labels)[0]",
    ],
)
def test_what_a_number_can_be_used_for_stays_a_match(body: str) -> None:
    assert found(body)[0].verdict == "match"


@pytest.mark.parametrize(
    "store",
    [
        "self.loss_type = 'ForMaskedLM'",
        "self.loss_function = flag",
        "self._loss_function = flag",
        "if flag:\n    self.loss_type = 'ForMaskedLM'",
        "setattr(self, 'loss_type', 'ForMaskedLM')",
        "setattr(self, flag, 'ForMaskedLM')",
        "object.__setattr__(self, 'loss_type', 'ForMaskedLM')",
        "self.__dict__['loss_type'] = 'ForMaskedLM'",
        "vars(self).update(loss_type='ForMaskedLM')",
        "del self.loss_type",
        "self.config.loss_type = 'ForMaskedLM'",
        "for self.loss_type in ('ForMaskedLM',):\n    pass",
        "self.choose()",
        "choose(self)",
        "turn = self.choose\nturn()",
    ],
)
@pytest.mark.parametrize("order", ["{store}\n{loss}", "{loss}\n{store}"])
def test_a_loss_that_is_chosen_in_the_forward_is_refused(store: str, order: str) -> None:
    site, _ = found(order.format(store=store, loss=f"loss = {CALL}"))
    assert site.verdict == "reject"
    assert site.code in ("FG207", "FG302")
