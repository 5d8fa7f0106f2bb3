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
