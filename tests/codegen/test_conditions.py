"""A condition of a match means the same where it is asked as where it was read, or the match is not emitted.

Each forward runs as it is and as it is emitted, on numbers in the place of tensors: whatever a name or an attribute is
bound to in between, and however, both must give the same loss.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import types
from typing import Any

import pytest

from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.pipeline import read_index
from fusegen.codegen.plan import PlanRefusal, plan
from fusegen.codegen.render import fused_function

FILE = """\
import torch
from torch import nn
from bird import settings
from transformers.modeling_outputs import CausalLMOutput

LEVELS = types.SimpleNamespace(square=None)


def step(module):
    module.square = None
    module.config.square = None


def squared(self, logits, mode, options):
    if CONDITION:
        return logits
    return logits ** 2


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.square = 1
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def step(self):
        self.square = None
        self.config.square = None

    def turn(self):
        self.step()

    def walk(self, function):
        function(self)
        function(self.config)

    def forward(self, input_ids=None, labels=None, mode=None, options=None, name="square", **kwargs):
"""

# What says whether the logits are squared: a condition, and the value that decides when the forward is called.
CONDITIONS = [
    "mode is None",
    "self.square is None",
    "self.config.square is None",
    "options.square is None",
    "settings.square is None",
    "LEVELS.square is None",
    "getattr(self, 'square', None) is None",
    "getattr(self.config, 'square', None) is None",
    "len(options.marks) > 0",
    "'mark' in self.marks",
    "not hasattr(options, 'square') or options.square is None",
    # Longer than what a report spells out.
    "(mode is None and self.square is None and self.config.square is None) or (options is None and mode is None)",
]

CHANGES = [
    "pass",
    "mode = None",
    "mode, other = None, 1",
    "if input_ids > 2:\n    mode = None",
    "mode = None if input_ids > 2 else mode",
    "(mode := None)",
    "other = (mode := None) or 1",
    "for mode in (1, None):\n    pass",
    "with contextlib.nullcontext() as mode:\n    pass",
    "try:\n    mode = None\nexcept ValueError:\n    pass",
    "while mode is not None:\n    mode = None",
    "del mode\nmode = None",
    "self.square = None",
    "if input_ids > 2:\n    self.square = None",
    "self.square, self.config.square = None, None",
    "setattr(self, 'square', None)",
    "setattr(self, name, None)",
    "object.__setattr__(self, 'square', None)",
    "self.__setattr__('square', None)",
    "self.__dict__['square'] = None",
    "self.__dict__.update(square=None)",
    "vars(self)['square'] = None",
    "vars(self).update(square=None)",
    "for module in [self, self.config]:\n    module.square = None",
    "with contextlib.nullcontext() as self.square:\n    pass",
    "for self.square in (1, None):\n    pass",
    "self.config.square = None",
    "config = self.config\nconfig.square = None",
    "self.config.update({'square': None})",
    "self.config = types.SimpleNamespace(square=None)",
    "options.square = None",
    "other = options\nother.square = None",
    "del options.square",
    "delattr(options, 'square')",
    "options = types.SimpleNamespace(square=None)",
    "settings.square = None",
    "LEVELS.square = None",
    "setattr(settings, 'square', None)",
    "self.step()",
    "self.turn()",
    "turn = self.turn\nturn()",
    "step(self)",
    "other = step\nother(self)",
    "self.prepare()",
    "super().prepare()",
    "self.prepared(input_ids)",
    "options.clear()",
    "options.reset()",
    "self.config.reset()",
    "clear = options.clear\nclear()",
    "self.config.clear()",
    "reset()",
    "settings.clear()",
    "options.marks.append('mark')",
    "marks = options.marks\nmarks.append('mark')",
    "options.marks[:] = ['mark']",
    "self.marks += ['mark']",
    "self.marks.extend(['mark'])",
    "list(map(elsewhere, [self, options]))",
    "functools.partial(elsewhere, self)()",
    "[elsewhere(each) for each in (self, self.config)]",
    "self.walk(elsewhere)",
    "elsewhere(module=self)",
    "elsewhere({'of': options}['of'])",
    "elsewhere(self)",
    "elsewhere(self.config)",
    "elsewhere(options)",
]

# Where the condition is read, where something changes, and where the logits are squared.
SHAPES = {
    "read, changed, head": "plain = CONDITION\nCHANGE\nHEAD\nif not plain:\n    SQUARE\nLOSS",
    "read, head, changed": "plain = CONDITION\nHEAD\nCHANGE\nif not plain:\n    SQUARE\nLOSS",
    "read twice": "early = CONDITION\nCHANGE\nHEAD\nif not (CONDITION):\n    SQUARE\nLOSS",
    "read twice after": "early = CONDITION\nHEAD\nCHANGE\nif not (CONDITION):\n    SQUARE\nLOSS",
    "changed in the head's statement": "HEAD OF CHANGED\nif not (CONDITION):\n    SQUARE\nCHANGE\nLOSS",
    "read in a loop": "HEAD\nLOSS\nfor _ in range(2):\n    if not (CONDITION):\n        loss = logits\n    CHANGE",
    "read in a helper": "CHANGE\nHEAD\nlogits = squared(self, logits, mode, options)\nLOSS",
    "changed before a helper": "HEAD\nCHANGE\nlogits = squared(self, logits, mode, options)\nLOSS",
    "head, read, changed": "HEAD\nplain = CONDITION\nCHANGE\nif not plain:\n    SQUARE\nLOSS",
    "head, changed, read": "HEAD\nCHANGE\nif not (CONDITION):\n    SQUARE\nLOSS",
    "changed, head, read": "CHANGE\nHEAD\nif not (CONDITION):\n    SQUARE\nLOSS",
    "head, read, changed after": "HEAD\nif not (CONDITION):\n    SQUARE\nCHANGE\nLOSS",
    "read, changed, head, asked": "plain = CONDITION\nCHANGE\nHEAD\nLOSS IF plain",
    "head, changed, asked": "HEAD\nCHANGE\nLOSS IF CONDITION",
    "head, asked, changed": "HEAD\nplain = CONDITION\nCHANGE\nLOSS IF plain",
    "changed, head, returned": "plain = CONDITION\nCHANGE\nHEAD\nif not plain:\n    return logits\nLOSS",
    "head, changed, returned": "HEAD\nCHANGE\nif not (CONDITION):\n    return logits\nLOSS",
    "used after": "HEAD\nLOSS\nCHANGE\nif not (CONDITION):\n    loss = loss + logits",
    "used after a change before": "plain = CONDITION\nCHANGE\nHEAD\nLOSS\nif not plain:\n    loss = loss + logits",
    "operand": "scale = 2.0 if CONDITION else 3.0\nCHANGE\nHEAD\nlogits = logits * scale\nLOSS",
    "conditional operand": "plain = CONDITION\nHEAD\nCHANGE\nif not plain:\n    logits = logits * 2.0\nLOSS",
    "conditional operand, read late": "HEAD\nCHANGE\nif not (CONDITION):\n    logits = logits * 2.0\nCHANGE\nLOSS",
}

HEAD = "hidden_states = self.model(input_ids)[0]\nlogits = self.lm_head(hidden_states)"
HEAD_OF_CHANGED = HEAD.replace("(hidden_states)", "(self.prepared(hidden_states))")
LOSS = """\
loss = None
if labels is not Noneand:
    loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)"""
INPUTS = [*itertools.product((None, 1), (None, 1), (None, 11.0))]
END = "return CausalLMOutput(loss=loss, logits=logits)"


def forward(shape: str, condition: str, change: str) -> str:
    lines = []
    for line in SHAPES[shape].split("\n"):
        margin = line[: len(line) - len(line.lstrip())]
        loss, _, tested = line.partition(" IF ")
        text = {
            "HEAD": HEAD,
            "CHANGE": change,
            "SQUARE": "logits = logits ** 2",
            "HEAD OF CHANGED": HEAD_OF_CHANGED,
        }.get(line.strip())
        if text is None:
            text = LOSS.replace("and", f" and ({tested})" if tested else "") if loss == "LOSS" else line.strip()
        text = text.replace("CONDITION", condition)
        lines += [margin + each for each in text.split("\n")]
    return "".join(f"        {line}\n" for line in [*lines, END])


def marks(square: int | None) -> list[str]:
    return ["mark"] if square is None else []


class Model:
    """What a forward needs of its module, with numbers for tensors."""

    def __init__(self, square: int | None) -> None:
        self.square = square
        self.config = Config(square)

        self.marks = marks(square)

    def prepare(self) -> None:
        self.square = self.config.square = None
        self.marks.append("mark")

    def prepared(self, number: float) -> float:
        self.prepare()
        return number

    def model(self, number: float) -> tuple[float]:
        return (number + 1,)

    def lm_head(self, number: float) -> float:
        return number * 5

    def loss_function(self, logits: float, labels: float, vocab_size: int) -> float:
        return logits + labels + vocab_size


class Config(types.SimpleNamespace):
    def __init__(self, square: int | None) -> None:
        super().__init__(square=square, vocab_size=7, marks=marks(square))

    def clear(self) -> None:
        self.square = None
        self.marks.append("mark")

    reset = clear

    def update(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


def fusible(module: Model, head: Any, labels: Any, loss: str | None = None, where: Any = None, **_: Any) -> bool:
    if labels is None or (where is not None and not where()):
        return False
    fusible.fused += 1
    return True


def causal_lm_loss(hidden: float, head: Any, labels: float, vocab_size: int, scale: float | None = None) -> float:
    return head(hidden) * (1.0 if scale is None else scale) + labels + vocab_size


def elsewhere(module: Any) -> None:
    module.square = None
    module.marks.append("mark")


def outcomes(methods: str) -> list[Any]:
    """What the forward among some methods gives for all inputs: the loss, or the error that it raises."""
    space: dict[str, Any] = {
        "types": types,
        "contextlib": contextlib,
        "functools": functools,
        "reset": lambda: (space["settings"].clear(), space["LEVELS"].clear()),
        "BirdPreTrainedModel": Model,
        "CausalLMOutput": lambda loss, logits: ("loss", loss),
        "fusible": fusible,
        "causal_lm_loss": causal_lm_loss,
        "elsewhere": elsewhere,
    }
    exec(methods, space)
    given = []
    for square, mode, labels in INPUTS:
        space["settings"], space["LEVELS"], options = (Config(square) for _ in range(3))
        try:
            model = space["BirdForCausalLM"](square)
            given.append(model.forward(3.0, labels, mode=mode, options=options))
        except (AttributeError, UnboundLocalError, TypeError) as error:
            given.append(type(error).__name__)
    return given


def emitted(file: str, body: str) -> str | None:
    """The methods of the class with the emitted forward, None where the forward is refused."""
    text = file + body
    report, matches, _ = read_index("models/bird/modeling_bird.py", text, DEFAULT_MAPPING)
    assert not report.failures
    if not matches:
        assert [site.verdict for site in report.sites] == ["reject"]
        return None
    ((site, analysis),) = matches
    result = plan(site, analysis)
    if isinstance(result, PlanRefusal):
        return None
    return methods(file)[: methods(file).index("    def forward")] + fused_function(result, analysis.block)


def methods(file: str) -> str:
    start, end = file.index("    def __init__"), file.index("    def step(self)")
    return file[file.index("LEVELS") : start] + file[end:]


def fused_calls(shape: str, condition: str, change: str) -> int:
    """How many calls take the fused branch; each must give what the original gives. -1: the forward is refused."""
    file, body = FILE.replace("CONDITION", condition), forward(shape, condition, change)
    text = emitted(file, body)
    if text is None:
        return -1
    fusible.fused = 0
    found = outcomes(text)
    fused = fusible.fused
    assert found == outcomes(methods(file) + body), text
    return fused


# A loop is not followed, and what gets `self` or the hidden states of the head's statement may change them (FG609).
REFUSED = ("read in a loop", "changed in the head's statement", "read in a helper", "changed before a helper")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_condition_means_what_it_meant_where_it_was_read(shape: str) -> None:
    pairs = [*itertools.product(CONDITIONS, CHANGES)]
    chosen = pairs if os.environ.get("FUSEGEN_ALL_CONDITIONS") else random.Random(shape).sample(pairs, 40)
    fused = [fused_calls(shape, condition, change) for condition, change in chosen]
    print(shape, len(fused), "forwards,", sum(each > 0 for each in fused), "emitted and fused")
    assert any(each > 0 for each in fused) != (shape in REFUSED)


@pytest.mark.parametrize(
    ("shape", "condition", "change"),
    [
        ("read, changed, head", "mode is None", "mode = None"),
        ("read, changed, head", "mode is None", "if input_ids > 2:\n    mode = None"),
        ("read, changed, head", "self.square is None", "self.square = None"),
        ("read, changed, head", "settings.square is None", "settings.square = None"),
        ("read, changed, head", "settings.square is None", "reset()"),
        ("read, changed, head", "LEVELS.square is None", "reset()"),
        ("read, changed, head", "len(options.marks) > 0", "options.marks.append('mark')"),
        ("read, changed, head", "options.square is None", "options.clear()"),
        ("read, changed, head", "options.square is None", "options.reset()"),
        ("read, changed, head", "self.config.square is None", "self.config.reset()"),
        ("read, changed, head", "options.square is None", "elsewhere(options)"),
        ("read, changed, head", "self.config.square is None", "functools.partial(elsewhere, self)()"),
        ("read, changed, head", "self.config.square is None", "self.walk(elsewhere)"),
        ("read, changed, head", "self.square is None", "self.prepare()"),
        ("read twice", "self.square is None", "self.prepare()"),
        ("read twice after", "getattr(self, 'square', None) is not None", "elsewhere(self)"),
        ("read twice after", "self.square is not None", "elsewhere(self)"),
        ("changed in the head's statement", "self.square is None", "pass"),
        ("operand", "self.square is None", "self.square = None"),
        ("used after", "self.square is None", "self.prepare()"),
        ("used after", "self.square is None", "self.square = None"),
        ("head, changed, asked", "self.square is None", "self.prepare()"),
    ],
)
def test_each_kind_of_change(shape: str, condition: str, change: str) -> None:
    fused_calls(shape, condition, change)


# `getattr` of the module itself may give back what the head reads (FG609).
@pytest.mark.parametrize("condition", [each for each in CONDITIONS if "getattr(self," not in each])
def test_a_condition_that_nothing_changes_is_asked(condition: str) -> None:
    for shape in ("read, changed, head", "head, changed, read", "used after"):
        assert fused_calls(shape, condition, "pass") > 0
