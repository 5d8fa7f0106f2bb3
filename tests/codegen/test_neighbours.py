"""Other spellings of what may not stand between a head and its loss."""

from __future__ import annotations

import pytest

from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.pipeline import read_index
from fusegen.codegen.plan import PlanRefusal, plan

FILE = """\
import torch
from torch import nn
from transformers.modeling_outputs import CausalLMOutput


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids=None, labels=None, **kwargs):
        h = self.model(input_ids).last_hidden_state
        BEFORE
        logits = self.lm_head(h)
        BETWEEN
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        AFTER
        return CausalLMOutput(loss=loss, logits=logits)
"""


def refusal(before: str = "pass", between: str = "pass", after: str = "pass") -> str | None:
    """The code of why this forward is not emitted, or None."""
    text = FILE.replace("BEFORE", before).replace("BETWEEN", between).replace("AFTER", after)
    report, matches, _ = read_index("models/bird/modeling_bird.py", text, DEFAULT_MAPPING)
    assert not report.failures
    assert len(matches) == 1
    planned = plan(*matches[0])
    return planned.code if isinstance(planned, PlanRefusal) else None


def under(lines: tuple[str, ...]) -> str:
    """Statements of the forward, one below the other."""
    return "\n        ".join(lines)


HELD = """\
held = [h]; held[0] *= 2
held = [h.data]; held[0] += 1
held = {"h": h.detach()}; held["h"] *= 2
held = [[h.data]]; held[0][0] *= 2
held = {"w": self.lm_head.weight.data}; held["w"] *= 2
held = [self.lm_head.weight.detach()]; held[-1] -= 1
""".splitlines()


@pytest.mark.parametrize("line", HELD)
def test_an_augmented_item_changes_the_tensor_that_is_held(line: str) -> None:
    holder, change = line.split("; ")
    assert refusal(before=holder, between=change) == "FG609"
    assert refusal(before=holder, after=change) == "FG610"


@pytest.mark.parametrize("line", ["seen = {'n': 0}; seen['n'] += 1", "seen = [0, 1]; seen[0] += 1"])
def test_an_augmented_number_is_harmless(line: str) -> None:
    holder, change = line.split("; ")
    assert refusal(before=holder, between=change) is None


@pytest.mark.parametrize(
    "lines",
    [
        ("held = []", "held.append(h.data)", "held[0].mul_(2)"),
        ("held = []", "held.append(h.data)", "for each in held: each *= 2"),
        ("held = []", "held.extend([self.lm_head.weight.data])", "held[0] *= 2"),
        ("held = [1]", "held.insert(0, self.lm_head.weight.data)", "held[0].zero_()"),
        ("seen = 0", "kwargs.update(w=self.lm_head.weight.data)", "kwargs['w'] *= 2"),
    ],
)
def test_what_was_put_into_an_empty_container_is_in_it(lines: tuple[str, ...]) -> None:
    assert refusal(between=under(lines)) == "FG609"


@pytest.mark.parametrize(
    "lines",
    [
        ("x = next(iter([h.data]))", "x *= 2"),
        ("for x in reversed([h.data]): x *= 2",),
        ("for i, x in enumerate([self.lm_head.weight.data]): x *= 2",),
        ("d = dict(w=self.lm_head.weight.data)", "d.get('w').mul_(2)"),
        ("d = {'w': self.lm_head.weight.data}", "for k, v in d.items(): v *= 2"),
        ("x = torch.asarray(self.lm_head.weight.data)", "x *= 2"),
        ("max([h.data], key=id).mul_(2)",),
        ("x = [self.lm_head.weight.data] * 2", "x[1] *= 2"),
        ("x = {'w': self.lm_head.weight.data} | {}", "x['w'] *= 2"),
        ("x = None or self.lm_head.weight.data", "x *= 2"),
    ],
)
def test_a_change_after_the_loss_is_followed_through_what_may_give_it_back(lines: tuple[str, ...]) -> None:
    assert refusal(after=under(lines)) == "FG610"


@pytest.mark.parametrize(
    "line",
    ["if loss is not None: loss += 1", "if loss is not None: loss += 0.1 * h.mean()", "if loss is not None: loss *= 2"],
)
def test_the_loss_may_grow(line: str) -> None:
    assert refusal(after=line) is None
