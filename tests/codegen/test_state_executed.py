"""State that changes between head and loss, executed: a mutation is refused, or its numbers are the original's.

`test_state.py` asks whether a plan refuses; here the original and the emitted function of each mutated forward run on
stub modules, and loss, `requires_grad`, all gradients and what is left behind are compared. The same mutations with
`Effects` switched off show that the sample can fail.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from stubs import Setting, difference, emission, fused_methods, load, run

from fusegen.codegen.effects import Effects

OWNER = "BirdForCausalLM"

FILE = """\
import contextlib
import functools
import operator
from collections import deque

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_outputs import CausalLMOutput
from ...modeling_utils import PreTrainedModel


class Holder:
    def __init__(self, held):
        self.held = held

    def double(self):
        self.held = self.held * 2


class Acting:
    def __init__(self, model):
        self.model = model

    def __add__(self, other):
        self.model.scale = 3.0
        return other

    def __enter__(self):
        self.model.scale = 3.0

    def __exit__(self, *_):
        pass


class Shaking(nn.Module):
    def forward(self, x):
        return x.data.mul_(2)


class Reaching(nn.Module):
    def __init__(self, other):
        super().__init__()
        self.reached = [other]

    def forward(self, x):
        self.reached[0].weight.data.mul_(2)
        return x


class Doubling(nn.CrossEntropyLoss):
    def forward(self, logits, labels):
        return 2 * super().forward(logits, labels)


def steps(model):
    model.scale = 3.0
    yield 1


def doubled(weight):
    weight.data.mul_(2)


class BirdForCausalLM(PreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.other = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.shaking = Shaking()
        self.reaching = Reaching(self.lm_head)
        self.scale = 0.7
        self.calls = 0
        self.loss_fct = nn.CrossEntropyLoss()

    @property
    def bump(self):
        self.scale = self.scale + 1
        return self.scale

    @property
    def doubling(self):
        self.lm_head.weight.data.mul_(2)
        return 1

    def weight(self):
        return self.lm_head.weight

    def step(self):
        self.scale = self.scale * 2

    def note(self, x):
        self.noted = x.detach().sum().item()

    def forward(self, input_ids=None, labels=None, **kwargs):
        outputs = self.model(input_ids)
        hidden_states = outputs.last_hidden_state
        both = [hidden_states, hidden_states * 2]
        BEFORE
        logits = self.lm_head(HIDDEN)
        logits = logits * self.scale / self.config.scale
        BETWEEN
        loss = None
        if labels is not None:
            LOSS
        AFTER
        return CausalLMOutput(loss=loss, logits=logits)
"""

STOCK = "loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)"
OWN = "loss = self.loss_fct(logits.view(-1, self.config.vocab_size), labels.view(-1))"


class Mutation(NamedTuple):
    """What stands in `FILE` at its marked places."""

    between: str = "pass"
    before: str = "pass"
    hidden: str = "hidden_states"
    loss: str = STOCK
    after: str = "pass"

    def text(self) -> str:
        lines = []
        for line in FILE.replace("HIDDEN", self.hidden).splitlines():
            statements = getattr(self, line.strip().lower()) if line.strip().isupper() else line.lstrip()
            indent = line[: len(line) - len(line.lstrip())]
            lines += [indent + each for each in statements.split("\n")]
        return "\n".join(lines) + "\n"


CHANGES = {
    "augmented attribute": Mutation("self.scale += 1"),
    "deleted attribute": Mutation("del self.scale\nself.__dict__.update(scale=2.0)"),
    "target of a loop": Mutation("for self.scale in (2.0, 3.0): pass"),
    "alias of self": Mutation("for m in [self]: m.scale = 2.0"),
    "vars": Mutation('vars(self)["scale"] = 2.0'),
    "computed name": Mutation('setattr(self, "sc" + "ale", 2.0)'),
    "alias of the config": Mutation("config = self.model.config\nconfig.scale = 3.0"),
    "method": Mutation("self.step()"),
    "property": Mutation("x = self.bump"),
    "method by its name": Mutation('x = getattr(self, "bump")'),
    "generator": Mutation("x = [*steps(self)]"),
    "generator from before": Mutation("for _ in it: pass", before="it = steps(self)"),
    "operator of an object": Mutation("x = acting + 1", before="acting = Acting(self)"),
    "context": Mutation("with acting: pass", before="acting = Acting(self)"),
    "partial": Mutation("functools.partial(self.step)()"),
    "grad mode": Mutation("torch.set_grad_enabled(False)"),
    "grad mode by a context that is entered": Mutation("torch.no_grad().__enter__()"),
    "grad mode that ends": Mutation("torch.set_grad_enabled(True)", before="torch.set_grad_enabled(False)"),
    "autocast that ends": Mutation(
        "auto.__exit__(None, None, None)",
        before='auto = torch.autocast("cpu", dtype=torch.bfloat16)\nauto.__enter__()',
    ),
    "frozen head": Mutation("self.lm_head.requires_grad_(False)"),
    "another head": Mutation("self.lm_head, self.other = self.other, self.lm_head"),
    "another weight": Mutation("self.lm_head.weight = self.other.weight"),
    "weight in place": Mutation("self.lm_head.weight.data.mul_(2)"),
    "weight through a view": Mutation("w = self.lm_head.weight.data.view(-1)\nw *= 2"),
    "weight through a function": Mutation("doubled(self.lm_head.weight)"),
    "weight through another module": Mutation("x = self.reaching(hidden_states)"),
    "weight by an operator function": Mutation("operator.imul(self.lm_head.weight.data, 2)"),
    "all parameters": Mutation("for p in self.parameters(): p.data.mul_(2)"),
    "out=": Mutation("torch.mul(self.other.weight.data, 2, out=self.lm_head.weight.data)"),
    "hidden states in place": Mutation("hidden_states.data.mul_(2)"),
    "hidden states in place by a module": Mutation("x = self.relu(hidden_states.data)"),
    "hidden states by a module of the file": Mutation("x = self.shaking(hidden_states)"),
    "hidden states through numpy": Mutation("hidden_states.data.numpy()[:] = 2"),
    "hidden states of an object": Mutation("held.double()", before="held = Holder(hidden_states)", hidden="held.held"),
    "hidden states in a deque": Mutation("held.rotate(1)", before="held = deque(both)", hidden="held[0]"),
    "hidden states that einsum gives back": Mutation('x = torch.einsum("bld->dlb", hidden_states.data)\nx.mul_(2)'),
    "hidden states in a list that is repeated": Mutation("x = (both * 2)[2].data\nx.mul_(2)"),
    "labels in place": Mutation("x = labels if labels is None else labels.clamp_(min=5)"),
    "stored loss type": Mutation('self.loss_type = "ForMaskedLM"'),
    "setting of a criterion": Mutation('self.loss_fct.reduction = "sum"', loss=OWN),
    "alias of a criterion": Mutation('c.reduction = "sum"', before="c = self.loss_fct", loss=OWN),
    "hook on a criterion": Mutation("self.loss_fct.register_forward_hook(lambda m, i, o: o * 2)", loss=OWN),
    "another criterion": Mutation("self.loss_fct = Doubling()", loss=OWN),
    "weight after the loss": Mutation(after="self.lm_head.weight.data.mul_(2)"),
    "all parameters after the loss": Mutation(after="for p in self.parameters(): p.data.mul_(2)"),
    "what a method gives after the loss": Mutation(after="self.weight().data.mul_(2)"),
    "property after the loss": Mutation(after="x = self.doubling"),
    "what may be the hidden states after the loss": Mutation(
        after="x = F.dropout(hidden_states.data, 0.5, False)\nx.mul_(2)"
    ),
    "what an iterator gives after the loss": Mutation(after="x = next(iter([hidden_states.data]))\nx.mul_(2)"),
    "hidden states after the loss": Mutation(after="hidden_states.data.mul_(2)"),
}

HARMLESS = {
    "nothing": Mutation(),
    "nothing, with a criterion": Mutation(loss=OWN),
    "a counter": Mutation("self.calls += 1"),
    "a method that keeps a number": Mutation("self.note(hidden_states)"),
    "a list that is reversed": Mutation("both.reverse()", hidden="both[0]"),
    "a field of the output": Mutation("outputs.last_hidden_state = None", hidden="outputs.last_hidden_state"),
    "a copy in place": Mutation("x = hidden_states.clone().mul_(2)"),
    "a context that ends": Mutation("with torch.no_grad(): x = hidden_states.mean()"),
    "a loss that is added to in place": Mutation(after="if loss is not None: loss += self.scale"),
    "another module": Mutation("x = self.other(hidden_states)"),
}


SETTINGS = (Setting(), Setting(arguments={"labels": None}, seed=1), Setting(seed=2))


def verdict(mutation: Mutation) -> str:
    """`refused`, `equal`, or what the emitted function does otherwise."""
    text = mutation.text()
    stock_world, world = load(text), load(text)
    methods = fused_methods(world, emission(world)).get(OWNER)
    if methods is None:
        return "refused"
    found = [(run(stock_world, OWNER, None, each), run(world, OWNER, methods, each)) for each in SETTINGS]
    assert not any(stock.raised for stock, _ in found), found[0][0].message
    different = next((what for stock, fused in found if (what := difference(stock, fused)) is not None), None)
    return different or ("equal" if found[0][1].fused else "never fused")


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_refused_or_does_what_the_original_does(name: str) -> None:
    assert verdict(CHANGES[name]) in ("refused", "equal")


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_is_fused_and_does_what_the_original_does(name: str) -> None:
    assert verdict(HARMLESS[name]) == "equal"


def test_without_the_check_the_sample_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any) -> None:
        return None

    for question in ("touching", "outlasting", "disturbing"):
        monkeypatch.setattr(Effects, question, nothing)
    verdicts = {name: verdict(mutation) for name, mutation in CHANGES.items()}
    wrong = {name for name, found in verdicts.items() if found not in ("refused", "equal", "never fused")}
    # The others are refused by what stores say, or may be read later as well.
    assert len(wrong) > 15, verdicts
