"""The text that is read must be the one that runs, and nothing around it may need the logits."""

from __future__ import annotations

import pytest

from fusegen.codegen.emit import FileEmitter
from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.one_module import _OneFile
from fusegen.codegen.pipeline import read_file

PATH = "models/bird/modeling_bird.py"
IMPORTS = """\
import torch
from dataclasses import dataclass
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast, ModelOutput
from transformers.utils import auto_docstring, can_return_tuple
"""
FORWARD = """\
    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits)
"""
CLASS = f"""\
class BirdForCausalLM(PreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

{FORWARD}"""
WRAP = "def wrap(f):\n    return lambda self, *a, **k: f(self, *a, **k)\n\n\n"
AGAIN = FORWARD.replace("self.lm_head(hidden_states)", "self.lm_head(hidden_states) * 2.0")


def indented(text: str) -> str:
    return "".join(f"    {line}" for line in text.splitlines(keepends=True))


def module(*, before: str = "", decorator: str = "", text: str = CLASS, body: str = "", after: str = "") -> str:
    return f"{IMPORTS}\n\n{before}{decorator}{text}{body}\n\n{after}"


def found(text: str) -> tuple[str, str]:
    """The verdict on the last forward (or the code of its refusal) and the line that it names."""
    compile(text, "x", "exec")
    outcome = FileEmitter("0")(_OneFile("", None, PATH, text.encode()), PATH, DEFAULT_MAPPING)
    assert not outcome.failures
    lines = text.split("\n")
    if outcome.not_emitted:
        refused = outcome.not_emitted[-1]
        return refused.code, lines[refused.line - 1].strip()
    site = outcome.report.sites[-1]
    if site.verdict == "reject":
        return site.code or "", lines[(site.at_line or 0) - 1].strip()
    return ("emitted" if outcome.emitted else "match"), ""


SOUND = {
    "plain": module(),
    "defined twice, the last counts": module(body=AGAIN),
    "other names in the body": module(
        body="    kept = None\n    first, second = 1, 2\n    if True:\n        third = 3\n"
    ),
    "docstrings and strings": module(
        body='    def other(self):\n        """forward = x"""\n        return "forward"\n'
    ),
    "a local name": module(body="    def other(self):\n        forward = 1\n        return forward\n"),
    "known decorators": module(
        text=CLASS.replace(
            "    def forward", "    @can_return_tuple\n    @torch.compile\n    @auto_docstring\n    def forward"
        ),
        decorator="@auto_docstring\n",
    ),
    "another class is changed": module(
        after="class Other: ...\n\n\nOther.forward = None\nsetattr(Other, 'forward', 1)\n"
    ),
    "a module of the model is changed": module(body="    def tie(self):\n        self.model.forward = None\n"),
    "the forward is looked at": module(after="print(BirdForCausalLM.forward, getattr(BirdForCausalLM, 'forward'))\n"),
    "an abstract class": module(
        before="import abc\n\n\n", text=CLASS.replace("(PreTrainedModel)", "(PreTrainedModel, metaclass=abc.ABCMeta)")
    ),
    "an output with a property": module(
        before="@dataclass\nclass CausalOutput(ModelOutput):\n    loss: torch.Tensor | None = None\n"
        "    logits: torch.Tensor | None = None\n    images: tuple | None = None\n\n"
        "    @property\n    def first_image(self):\n        return self.images[0]\n\n\n",
        text=CLASS.replace("CausalLMOutputWithPast(", "CausalOutput("),
    ),
}

REPLACED = {
    "under if": (
        module(body=f"    if True:\n{indented(AGAIN)}"),
        "def forward(self, input_ids=None, labels=None, **kwargs):",
    ),
    "under if in if": (
        module(body=f"    if True:\n        if True:\n{indented(indented(AGAIN))}"),
        "def forward(self, input_ids=None, labels=None, **kwargs):",
    ),
    "under try": (
        module(body=f"    try:\n{indented(AGAIN)}    except Exception:\n        pass\n"),
        "def forward(self, input_ids=None, labels=None, **kwargs):",
    ),
    "under with": (
        module(body=f"    with torch.no_grad():\n{indented(AGAIN)}"),
        "def forward(self, input_ids=None, labels=None, **kwargs):",
    ),
    "under for": (
        module(body=f"    for _ in range(2):\n{indented(AGAIN)}"),
        "def forward(self, input_ids=None, labels=None, **kwargs):",
    ),
    "assigned": (module(body="    first = None\n    forward = first\n"), "forward = first"),
    "wrapped": (module(before=WRAP, body="    forward = wrap(forward)\n"), "forward = wrap(forward)"),
    "wrapped with a type": (
        module(before=WRAP, body="    forward: object = wrap(forward)\n"),
        "forward: object = wrap(forward)",
    ),
    "wrapped on one line with others": (
        module(before=WRAP, body="    kept = 1; forward = wrap(forward)\n"),
        "kept = 1; forward = wrap(forward)",
    ),
    "one of two targets": (module(body="    kept, forward = 1, None\n"), "kept, forward = 1, None"),
    "a chain of targets": (module(body="    kept = forward = None\n"), "kept = forward = None"),
    "a walrus": (module(body="    kept = (forward := None)\n"), "kept = (forward := None)"),
    "imported": (module(body="    from bird import fast as forward\n"), "from bird import fast as forward"),
    "deleted": (module(body="    del forward\n"), "del forward"),
    "a target of for": (module(body="    for forward in (): pass\n"), "for forward in (): pass"),
    "a nested class": (module(body="    class forward: pass\n"), "class forward: pass"),
    "by locals": (module(body="    locals()['forward'] = None\n"), "locals()['forward'] = None"),
    "by exec": (module(body="    exec('forward = None')\n"), "exec('forward = None')"),
    "under another name": (module(body="    run = forward\n"), "run = forward"),
    "in a dict": (module(body="    ways = {\n        'a': forward,\n    }\n"), "'a': forward,"),
    "stored on the class": (module(after="BirdForCausalLM.forward = None\n"), "BirdForCausalLM.forward = None"),
    "stored in a tuple": (
        module(after="BirdForCausalLM.forward, kept = None, 1\n"),
        "BirdForCausalLM.forward, kept = None, 1",
    ),
    "stored by setattr": (
        module(after="setattr(BirdForCausalLM, 'forward', None)\n"),
        "setattr(BirdForCausalLM, 'forward', None)",
    ),
    "stored by a function": (
        module(after="def speed_up(cls):\n    cls.forward = None\n    return cls\n"),
        "cls.forward = None",
    ),
    "stored on a base": (
        module(
            before="class BirdBase(PreTrainedModel): ...\n\n\n",
            text=CLASS.replace("(PreTrainedModel)", "(BirdBase)"),
            after="BirdBase.__call__ = None\n",
        ),
        "BirdBase.__call__ = None",
    ),
    "stored on the instance": (
        module(body="    def speed_up(self):\n        self.forward = torch.compile(self.forward)\n"),
        "self.forward = torch.compile(self.forward)",
    ),
    "deleted from the class": (module(after="del BirdForCausalLM.forward\n"), "del BirdForCausalLM.forward"),
    "the class twice": (module(after=CLASS), "class BirdForCausalLM(PreTrainedModel):"),
    "the class again under if": (
        module(after=f"if torch.cuda.is_available():\n{indented(CLASS)}"),
        "def forward(self, input_ids=None, labels=None, **kwargs):",
    ),
    "the class rebound": (
        module(after="BirdForCausalLM = torch.compile(BirdForCausalLM)\n"),
        "def forward(self, input_ids=None, labels=None, **kwargs):",
    ),
    "by globals": (module(after="globals()['BirdForCausalLM'] = None\n"), "globals()['BirdForCausalLM'] = None"),
    "a decorator of the class": (
        module(before="def speed_up(cls):\n    return cls\n\n\n", decorator="@speed_up\n"),
        "@speed_up",
    ),
    "an imported decorator of the class": (
        module(before="from fast import speed_up\n\n\n", decorator="@speed_up(1)\n"),
        "@speed_up(1)",
    ),
    "a known name for another decorator": (
        module(before="def auto_docstring(cls):\n    return cls\n\n\n", decorator="@auto_docstring\n"),
        "@auto_docstring",
    ),
    "a metaclass": (
        module(
            before="class Meta(type): ...\n\n\n",
            text=CLASS.replace("(PreTrainedModel)", "(PreTrainedModel, metaclass=Meta)"),
        ),
        "class BirdForCausalLM(PreTrainedModel, metaclass=Meta):",
    ),
    "a base that changes its subclasses": (
        module(
            before="class BirdBase(PreTrainedModel):\n    def __init_subclass__(cls):\n        pass\n\n\n",
            text=CLASS.replace("(PreTrainedModel)", "(BirdBase)"),
        ),
        "def __init_subclass__(cls):",
    ),
}

OUTPUT = """\
@dataclass
class CausalOutput(ModelOutput):
    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    images: tuple | None = None

"""
ALIAS = CLASS.replace("CausalLMOutputWithPast(", "CausalOutput(")
DECORATED = "    @{0}\n    def forward"


def with_output(added: str, *, decorated: str = "@dataclass\n", base: str = "ModelOutput", before: str = "") -> str:
    text = OUTPUT.replace("@dataclass\n", decorated).replace("ModelOutput", base)
    return module(before=f"{before}{text}{added}\n\n", text=ALIAS)


NOT_EMITTED = {
    "a decorator of the file": (
        "FG612",
        module(before=WRAP, text=CLASS.replace("    def forward", DECORATED.format("wrap"))),
    ),
    "an imported decorator": (
        "FG612",
        module(before="from fast import wrap\n\n\n", text=CLASS.replace("    def forward", DECORATED.format("wrap"))),
    ),
    "a decorator through its module": (
        "FG612",
        module(before="import fast\n\n\n", text=CLASS.replace("    def forward", DECORATED.format("fast.wrap(1)"))),
    ),
    "a decorator that took a known name": (
        "FG612",
        module(
            before="can_return_tuple = lambda f: f\n\n\n",
            text=CLASS.replace("    def forward", DECORATED.format("can_return_tuple")),
        ),
    ),
    "an output that computes when it is made": (
        "FG613",
        with_output("    def __post_init__(self):\n        self.loss = self.loss + self.logits.mean()\n"),
    ),
    "an output with an init": (
        "FG613",
        with_output("    def __init__(self, loss, logits):\n        self.loss = loss\n"),
    ),
    "an output that sees what is set": (
        "FG613",
        with_output("    def __setattr__(self, name, value):\n        super().__setattr__(name, value)\n"),
    ),
    "an output with a property of its logits": (
        "FG613",
        with_output("    @property\n    def best(self):\n        return self.logits.argmax(-1)\n"),
    ),
    "an output with a property that reads by name": (
        "FG613",
        with_output("    @property\n    def best(self):\n        return vars(self)['logits'].argmax(-1)\n"),
    ),
    "an output with a method": (
        "FG613",
        with_output("    def best(self):\n        return self.logits.argmax(-1)\n"),
    ),
    "an output with a descriptor": ("FG613", with_output("    extra = Descriptor()\n")),
    "a decorated output": (
        "FG613",
        with_output("", decorated="@watched\n@dataclass\n", before="def watched(cls):\n    return cls\n\n\n"),
    ),
    "a base that computes": (
        "FG613",
        with_output(
            "",
            base="BaseOutput",
            before="class BaseOutput(ModelOutput):\n    def __post_init__(self):\n        pass\n\n\n",
        ),
    ),
    "an imported base": ("FG613", with_output("", base="BaseOutput", before="from birds import BaseOutput\n\n\n")),
    "an imported output": ("FG613", module(before="from birds import CausalOutput\n\n\n", text=ALIAS)),
    "a function that is called like an output": (
        "FG401",
        module(before="def CausalOutput(loss, logits):\n    return logits.sum()\n\n\n", text=ALIAS),
    ),
    "a name that was bound to another output": (
        "FG613",
        module(before="CausalOutput = watched(ModelOutput)\n\n\n", text=ALIAS),
    ),
    "a call of its own": (
        "FG614",
        module(body="    def __call__(self, *args):\n        return super().__call__(*args)\n"),
    ),
    "a call that is assigned": ("FG614", module(before=WRAP, body="    __call__ = wrap(PreTrainedModel.__call__)\n")),
    "attributes that are watched": (
        "FG614",
        module(body="    def __getattribute__(self, name):\n        return super().__getattribute__(name)\n"),
    ),
}


@pytest.mark.parametrize("text", SOUND.values(), ids=SOUND)
def test_what_changes_nothing_is_emitted(text: str) -> None:
    assert found(text) == ("emitted", "")


@pytest.mark.parametrize(("text", "line"), REPLACED.values(), ids=REPLACED)
def test_another_function_may_run(text: str, line: str) -> None:
    assert found(text) == ("FG209", line)


@pytest.mark.parametrize(("code", "text"), NOT_EMITTED.values(), ids=NOT_EMITTED)
def test_what_runs_around_may_need_the_logits(code: str, text: str) -> None:
    assert found(text)[0] == code


def test_a_method_that_forward_is_made_of() -> None:
    text = module(text=CLASS.replace("def forward", "def first"), body="    forward = first\n")
    assert found(text) == ("FG209", "forward = first")


def test_a_helper_that_is_decorated_by_a_known_name_of_the_file_is_not_followed() -> None:
    text = module(
        before="def auto_docstring(f):\n    return lambda self, x: f(self, x) * 2\n\n\n",
        text=CLASS.replace("self.lm_head(hidden_states)", "self.scores(hidden_states)"),
        body="    @auto_docstring\n    def scores(self, hidden_states):\n        return self.lm_head(hidden_states)\n",
    )
    (site,) = read_file(PATH, text, DEFAULT_MAPPING).sites
    assert (site.verdict, site.code) == ("reject", "FG101")
