"""A fused forward runs by the names, the defaults and the decorators of its original, whoever changes them and when."""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys
from textwrap import dedent, indent

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from transformers import LlamaForCausalLM  # noqa: E402

from fusegen.runtime import coverage, install, uninstall  # noqa: E402

pytestmark = pytest.mark.usefixtures("clean_runtime")

IDS = torch.arange(12).reshape(2, 6)

HEAD = """\
import functools
import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

{before}

class Bird(PreTrainedModel):
    config_class = LlamaConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


class BirdForCausalLM(Bird):
{inside}
    {decorators}
    def forward(self, input_ids=None, labels=None{parameters}, **kwargs):
        {docstring}
        hidden_states = self.model(input_ids)[0]
{lines}
        logits = self.lm_head(hidden_states)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)
"""


@pytest.fixture
def bird(tmp_path, monkeypatch, request):
    """Writes a modeling file and imports it."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(before="", inside="    pass", decorators="", parameters="", docstring="", lines=""):
        name = f"modeling_bird_{abs(hash(request.node.name))}_{len(made)}"
        parts = {
            "before": dedent(before),
            "inside": indent(dedent(inside), "    "),
            "decorators": decorators,
            "parameters": parameters,
            "docstring": docstring,
            "lines": indent(dedent(lines), " " * 8),
        }
        (tmp_path / f"{name}.py").write_text(HEAD.format(**parts))
        importlib.invalidate_caches()
        made.append(name)
        return importlib.import_module(name)

    yield make
    for name in made:
        sys.modules.pop(name, None)


def model_of(module):
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    config = module.LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2)
    return module.BirdForCausalLM(config).train()


def losses(model, calls=2, **given):
    found = []
    for _ in range(calls):
        model.zero_grad()
        loss = model(IDS, labels=IDS, **given).loss
        loss.backward()
        found.append([loss.detach(), model.lm_head.weight.grad.clone()])
    return found


def assert_same(make, **parts):
    """The fused losses and gradients of two calls are the stock ones of a module of its own, and are fused."""
    right = losses(model_of(make(**parts)))
    model = model_of(make(**parts))
    assert install(model).installed
    torch.testing.assert_close(losses(model), right)
    assert [*coverage().values()] == [{"fused": 2}]


SCALED = "hidden_states = hidden_states * {}"


@pytest.mark.parametrize(
    ("before", "lines"),
    [
        ("STEP = 1\ndef bump():\n    global STEP\n    STEP += 1", "bump()\n" + SCALED.format("STEP")),
        ("def late():\n    global STEP\n    STEP = 3", "late()\n" + SCALED.format("STEP")),
        ("", SCALED.format("len(__name__)")),
        ("", SCALED.format("len(__file__) / 50")),
        ("", SCALED.format("(1 + (__spec__.name == __name__))")),
    ],
)
def test_names_of_the_module_are_those_that_it_has(bird, before, lines):
    assert_same(bird, before=before, lines=lines)


def test_what_is_rebound_from_outside_after_install_counts(bird):
    module = bird(before="STEP = 1", lines=SCALED.format("STEP"))
    model = model_of(module)
    install(model)
    before = losses(model, 1)
    module.STEP = 3
    changed = losses(model, 1)
    uninstall(model)
    torch.testing.assert_close(losses(model, 1), changed)
    assert changed[0][0] != before[0][0]


@pytest.mark.parametrize(
    "parts",
    [
        {"before": "k = 9.0", "inside": "k = 4.0", "parameters": ", scale=k"},
        {"before": "k = 9.0", "parameters": ", scale=k", "inside": "pass\n\n\ndef unused(self):\n    return k"},
        {
            "before": "NUMBERS = iter([2.0, 5.0, 7.0])\ndef following():\n    return next(NUMBERS)",
            "parameters": ", scale=following()",
        },
        {"parameters": ", *, scale=3.0"},
        {
            "before": "k = 2.0",
            "parameters": ", scale=k, given=[]",
            "lines": "given.append(1)\nscale = scale * len(given)",
        },
    ],
)
def test_defaults_are_those_of_the_original(bird, parts):
    lines = parts.pop("lines", "") + "\n" + SCALED.format("scale")
    assert_same(bird, **parts, lines=lines)


def test_a_default_of_the_class_body_alone_is_not_emitted(bird):
    report = install(model_of(bird(inside="k = 4.0", parameters=", scale=k")))
    assert [each.code for each in report.unmatched] == ["FG615"]


def test_a_global_that_was_rebound_after_the_definition(bird):
    module = bird(before="k = 2.0", parameters=", scale=k", lines=SCALED.format("scale"))
    module.k = 9.0
    right = losses(model_of(module), 1)
    model = model_of(module)
    assert install(model).installed
    torch.testing.assert_close(losses(model, 1), right)


COUNTING = """
CALLS = []
def counting(function):
    CALLS.append("decorated")
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        CALLS.append("called")
        return function(*args, **kwargs)
    return wrapper
"""


def test_a_decorator_of_the_file_is_refused_and_runs_as_before(bird):
    module = bird(before=COUNTING, decorators="@counting")
    model = model_of(module)
    assert [each.code for each in install(model).unmatched] == ["FG612"]
    losses(model, 2)
    assert module.CALLS == ["decorated", "called", "called"]


def test_what_is_said_about_a_function_is_what_the_original_says():
    original = vars(LlamaForCausalLM)["forward"]
    install()
    forward = vars(LlamaForCausalLM)["forward"]
    assert forward is not original
    assert "[`LlamaConfig`]" in forward.__doc__
    for name in ("__doc__", "__module__", "__qualname__", "__annotations__"):
        assert getattr(forward, name) == getattr(original, name)
    assert inspect.signature(forward) == inspect.signature(original)
    assert pickle.loads(pickle.dumps(forward)) is forward
    assert "if fusible(" in inspect.getsource(inspect.unwrap(forward))


def test_a_generated_class_that_is_used_as_it_is_stands_for_the_original(bird, tmp_path):
    """Where names move: the emitted module is right on its own, not only where it is installed."""
    module = bird(
        before="STEP = 1\nk = 9.0\ndef bump():\n    global STEP\n    STEP += 1",
        inside="k = 4.0",
        parameters=", scale=k",
        lines="bump()\n" + SCALED.format("STEP * scale"),
    )
    from fusegen.runtime import in_memory

    text = in_memory.generated(module).text
    assert "@stands_for_original\nclass BirdForCausalLM(" in text
    (tmp_path / "generated_bird.py").write_text(text)
    importlib.invalidate_caches()
    right = losses(model_of(module))
    module.STEP = 1
    theirs, module.BirdForCausalLM = module.BirdForCausalLM, importlib.import_module("generated_bird").BirdForCausalLM
    try:
        torch.testing.assert_close(losses(model_of(module)), right)
    finally:
        module.BirdForCausalLM = theirs
        del sys.modules["generated_bird"]
