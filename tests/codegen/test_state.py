"""What may stand between a head and its loss: each mutation is refused, each harmless neighbour is not."""

from __future__ import annotations

import pytest

from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.pipeline import read_index
from fusegen.codegen.plan import PlanRefusal, plan

FILE = """\
import contextlib
import random
import torch
import torch.nn.functional as F
from collections import deque
from torch import nn
from torch.nn import CrossEntropyLoss
from transformers.modeling_outputs import CausalLMOutput, ModelOutput
from .helpers import freeze, Stepper


def quiet(x):
    parts = []
    for part in x.unbind(0):
        parts.append(part.float().sum())
    return torch.stack(parts)


def switch(on):
    torch.set_grad_enabled(on)


def numbers(model):
    model.scale = 2.0
    yield 1


class Holder:
    def __init__(self, h):
        self.h = h

    def step(self):
        self.h = self.h * 2


class Aux(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, 2)
        self.act = nn.ReLU()
        self.seen = 0

    def forward(self, x):
        self.seen += 1
        return self.act(self.dense(x))


class Shaking(nn.Module):
    def __init__(self, config):
        super().__init__()

    def forward(self, x):
        return x.mul_(2)


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.other = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.aux = Aux(config)
        self.shaking = Shaking(config)
        self.relu = nn.ReLU(inplace=True)
        self.scale = 0.7
        self.calls = 0
        self.register_buffer("table", torch.zeros(3))
        self.callback = config.callback
        self.loss_fct = CrossEntropyLoss()

    @property
    def bump(self):
        self.scale += 1
        return self.scale

    def step(self):
        self.scale = self.scale * 2

    def note(self, x):
        self.noted = x.sum()

    def forward(self, input_ids=None, labels=None, cache=None, opt=None, fn=None, **kwargs):
        outputs = self.model(input_ids)
        hidden_states = outputs.last_hidden_state
        hs = [hidden_states, hidden_states * 2]
        BEFORE
        logits = self.lm_head(HIDDEN)
        logits = logits * self.scale
        BETWEEN
        loss = None
        if labels is not None:
            LOSS
        AFTER
        return CausalLMOutput(loss=loss, logits=logits)
"""

STOCK = "loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)"
OWN = "loss = loss_fct(logits.view(-1, self.config.vocab_size), labels.view(-1))"


def outcome(
    between: str = "pass",
    before: str = "pass",
    after: str = "pass",
    hidden: str = "hidden_states",
    loss: str = STOCK,
) -> str | None:
    """The code of why this forward is not emitted, or None."""
    text = FILE
    for place, given in (("BEFORE", before), ("BETWEEN", between), ("AFTER", after), ("LOSS", loss)):
        margin = next(line for line in text.splitlines() if line.strip() == place)
        indent = margin[: len(margin) - len(place)]
        text = text.replace(margin, "\n".join(indent + line for line in given.splitlines()))
    text = text.replace("HIDDEN", hidden)
    compile(text, "bird", "exec")
    report, matches, _ = read_index("models/bird/modeling_bird.py", text, DEFAULT_MAPPING)
    assert not report.failures
    site = next(site for site in report.sites if site.method == "forward")
    if site.verdict == "reject":
        return site.code
    planned = [plan(match, analysis) for match, analysis in matches if match.method == "forward"]
    return planned[0].code if isinstance(planned[0], PlanRefusal) else None


def test_the_plain_forward_is_emitted() -> None:
    assert outcome() is None


CHANGES = """\
self.scale += 1
self.scale *= 2
del self.scale
self.config.x *= 2
self.model.config.scale = 3
for self.scale in [2.0, 3.0]: pass
with contextlib.suppress() as self.scale: pass
self.scale, x = 2.0, 1
(self.scale, *x) = [2.0, 1]
setattr(self, "sc" + "ale", 2.0)
object.__setattr__(self, "scale", 2.0)
vars(self)["scale"] = 2.0
self.__dict__["scale"] = 2.0
self.__dict__.update(scale=2.0)
for m in [self]: m.scale = 2.0
me = self; me.scale = 2.0
type(self).scale = 2.0
BirdForCausalLM.scale = 2.0
self.step()
x = self.bump
x = list(numbers(self))
cfg = self.model.config; cfg.scale = 3
torch.set_grad_enabled(False)
torch._C._set_grad_enabled(False)
switch(True)
torch.set_default_dtype(torch.float64)
torch.use_deterministic_algorithms(True)
torch.backends.cuda.matmul.allow_tf32 = True
torch.set_autocast_enabled("cpu", True)
torch.autocast("cpu").__enter__()
torch.no_grad().__enter__()
torch.inference_mode(False).__enter__()
self.lm_head.requires_grad_(False)
self.requires_grad_(False)
self.lm_head.weight.requires_grad = False
self.lm_head.weight.requires_grad_(False)
hidden_states.requires_grad_()
self.eval()
self.lm_head.train(False)
self.lm_head.half()
self.lm_head.to(torch.float64)
self.to("cpu")
self.lm_head = self.other
self._modules["lm_head"] = self.other
self.lm_head.weight = self.other.weight
self.lm_head.weight.data = self.other.weight.data
self.lm_head.weight.data.mul_(2)
self.lm_head.weight.mul_(2)
self.lm_head.weight *= 2
self.lm_head.weight[0] = 0
self.lm_head.weight.data[0] += 1
w = self.lm_head.weight; w.data.mul_(2)
w = self.lm_head.weight.view(-1); w += 1
self.lm_head.apply(freeze)
self.apply(freeze)
nn.init.zeros_(self.lm_head.weight)
torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)
torch.nn.utils.parametrizations.weight_norm(self.lm_head)
for p in self.parameters(): p.mul_(2)
for p in self.lm_head.parameters(): p.data += 1
self.load_state_dict(self.other.state_dict())
self.tie_weights()
self.resize_token_embeddings(3)
self.get_output_embeddings().weight.data.mul_(2)
torch.mul(hidden_states, 2, out=self.lm_head.weight.data)
opt.step()
self.callback(self)
self.callback()
fn(self)
fn()
freeze(self)
freeze(hidden_states)
Stepper(self)
hidden_states.mul_(2)
hidden_states[0] = 0
hidden_states += 1
hidden_states.data.zero_()
outputs.last_hidden_state.mul_(2)
v = hidden_states.view(-1); v *= 2
F.relu(hidden_states, inplace=True)
F.relu(hidden_states, True)
F.dropout(hidden_states, 0.5, True, fn)
self.relu(hidden_states)
self.shaking(hidden_states)
nn.ReLU(True)(hidden_states)
hs[0].mul_(2)
for h in hs: h.mul_(2)
torch.relu_(hidden_states)
cache.update(hidden_states)
random.shuffle(hs)
next(fn)
list(map(fn, hs))
sorted(hs, key=fn)
exec("hidden_states = 2")
globals()["x"] = 1
import helpers
from helpers import bad
class X: y = fn()
match input_ids:
    case _: pass
global G
getattr(self, "st" + "ep")()
super().step()
lambda: fn(); (lambda: fn())()
{k: fn() for k in (1, 2)}
assert fn()
x = [self, 1]
with fn: pass
with torch.no_grad(), fn(): pass
torch.cuda.set_device(0)
outputs.data = 1
self.training = False
self.table.add_(1)
self.loss_type = "ForMaskedLM"
self.loss_function = fn
F.batch_norm(hidden_states, self.table, self.table, training=True)
hidden_states.register_hook(fn)
print(hidden_states.detach_())
x = getattr(self, "bump")
x = hasattr(self, "bump")
h = max([hidden_states.detach()]); h.mul_(2)
h = +hidden_states.detach(); h.mul_(2)
"""


@pytest.mark.parametrize(
    "between", [line.replace("\\n", "\n") for line in CHANGES.replace("\n    case", "\\n    case").splitlines()]
)
def test_a_change_between_head_and_loss_is_refused(between: str) -> None:
    statements = "\n".join(between.split("; ")) if "lambda" not in between else between
    assert outcome(statements) is not None


HARMLESS = """\
self.calls += 1
self.calls = self.calls + 1
self.noted = hidden_states
self.note(hidden_states)
steps = labels.numel() if labels is not None else 0
count = (labels != -100).sum().item() if labels is not None else 0
x = quiet(hidden_states)
x = self.aux(hidden_states)
x = self.other(hidden_states)
x = torch.zeros(2); x += 1
x = input_ids.new_zeros(3); x[0] = 1
parts = []; parts.append(hidden_states)
d = {}; d["k"] = hidden_states
kwargs.pop("extra", None)
hs.reverse()
hs.append(input_ids)
y = F.relu(self.aux.dense(hidden_states))
z = torch.cat([hidden_states, hidden_states], dim=-1).norm()
with torch.no_grad(): x = hidden_states.mean()
x = self.lm_head.weight.t()
x = self.table.to(hidden_states.device)
print("step", len(hs), isinstance(self.model, nn.Module))
x = self.config.get_text_config()
x = self.get_input_embeddings()
out = CausalLMOutput(logits=None)
out = CausalLMOutput(logits=None); out.loss = 1
outputs.hidden_states = None
x = hidden_states if hasattr(self, "x") else None
x = [h.mean() for h in hs]
for i in range(3): x = i * 2
x = nn.functional.softmax(hidden_states, dim=-1)
x = nn.Softmax(dim=-1)(hidden_states)
x = hidden_states.clone().mul_(2)
"""


@pytest.mark.parametrize("between", HARMLESS.splitlines())
def test_what_is_harmless_may_stand_between(between: str) -> None:
    assert outcome("\n".join(between.split("; "))) is None


@pytest.mark.parametrize(
    "hidden", ["outputs.last_hidden_state", "hs[0]", "outputs['last_hidden_state']", "F.relu(hs[0])"]
)
@pytest.mark.parametrize(
    "between",
    ["outputs.last_hidden_state = None", "hs.reverse()", "hs[0] = input_ids", "hs.sort()", "hs.pop()"],
)
def test_hidden_states_are_taken_out_before_their_holder_changes(hidden: str, between: str) -> None:
    assert outcome(between, hidden=hidden) is None


@pytest.mark.parametrize(
    ("before", "hidden", "between"),
    [
        ("c = Holder(hidden_states)", "c.h", "c.step()"),
        ("c = Holder(hidden_states)", "c.h", "c.h = input_ids"),
        ("c = Stepper(hidden_states)", "c.h", "c.step()"),
        ("c = deque(hs)", "c[0]", "c.rotate(1)"),
        ("c = iter(hs)", "hidden_states", "for _ in c: pass"),
        ("c = map(fn, hs)", "hidden_states", "list(c)"),
        ("c = (fn() for _ in hs)", "hidden_states", "x = list(c)"),
        ("c = numbers(self)", "hidden_states", "for _ in c: pass"),
        ("c = Holder(self)", "hidden_states", "x = c + 1"),
        ("self.lm_head.weight.data.clamp_(-3, 3)", "hidden_states", "self.lm_head.weight.data.mul_(2)"),
    ],
)
def test_an_object_from_before_the_head_acts_in_between(before: str, hidden: str, between: str) -> None:
    assert outcome(between, before, hidden=hidden) is not None


@pytest.mark.parametrize(
    "use",
    [
        "loss_fct.register_forward_hook(fn)",
        "loss_fct.ignore_index = 0",
        "loss_fct.weight = self.table",
        "loss_fct.to('cpu')",
        "setattr(loss_fct, 'reduction', 'sum')",
        "fn(loss_fct)",
        "for c in [loss_fct]: c.reduction = 'sum'",
        "self.criterion = loss_fct",
        "c = loss_fct\nc.ignore_index = 0",
        "d = {'c': loss_fct}\nd['c'].ignore_index = 0",
        "loss_fct.__dict__['ignore_index'] = 0",
    ],
)
def test_a_criterion_is_only_called(use: str) -> None:
    made = "loss_fct = CrossEntropyLoss()"
    assert outcome(loss=f"{made}\n{OWN}") is None
    assert outcome(loss=f"{made}\n{use}\n{OWN}") is not None
    assert outcome(before=f"{made}\n{use}", loss=OWN) is not None


@pytest.mark.parametrize(
    ("after", "code"),
    [
        ("self.lm_head.weight.data.mul_(2)", "FG610"),
        ("self.model.embed_tokens.weight.data.mul_(2)", "FG610"),
        ("for p in self.parameters(): p.data.mul_(2)", "FG610"),
        ("hidden_states.data.mul_(2)", "FG610"),
        ("fn(self)", "FG610"),
        ("self.callback()", "FG610"),
        ("self.table.data.clamp_(0, 1)", None),
        ("if loss is not None: loss += 1", None),
    ],
)
def test_backward_reads_what_the_product_read(after: str, code: str | None) -> None:
    assert outcome(after=after) == code
