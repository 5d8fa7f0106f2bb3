"""Which matches become an edit, and what the edit must never change."""

from __future__ import annotations

import ast

import pytest

from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.pipeline import read_index
from fusegen.codegen.plan import Plan, PlanRefusal, plan
from fusegen.codegen.render import free_names, fused_function
from fusegen.codegen.splice import unsplice

HEAD = """\
import torch
from torch import nn
from torch.nn import CrossEntropyLoss
from transformers.modeling_outputs import CausalLMOutput


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.register_buffer("final_logits_bias", torch.zeros((1, config.vocab_size)))

    def forward(self, input_ids=None, labels=None, flag=None, **kwargs):
"""

LOSS = "loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)"
PLAIN = f"""\
hidden_states = self.model(input_ids)[0]
logits = self.lm_head(hidden_states)
loss = None
if labels is not None:
    {LOSS}
return CausalLMOutput(loss=loss, logits=logits)
"""


NOTE = 'note = """\nover two lines"""\nloss = None'


def planned(body: str) -> tuple[Plan | PlanRefusal, str]:
    """The plan for a forward with this body, and the patched function (empty if there is none)."""
    text = HEAD + "".join(f"        {line}\n" for line in body.splitlines())
    report, matches, _ = read_index("models/bird/modeling_bird.py", text, DEFAULT_MAPPING)
    assert not report.failures
    ((site, analysis),) = matches
    result = plan(site, analysis)
    if isinstance(result, PlanRefusal):
        return result, ""
    function = fused_function(result, analysis.block)
    ast.parse("class _:\n" + function)
    assert unsplice(function + "\n") == analysis.block.text.rstrip() + "\n"
    return result, function


def fused_branch(function: str) -> str:
    return function.split("if fusible(")[1].split("\n        else:")[0]


def one_line(branch: str) -> str:
    return " ".join(branch.split()).replace("( ", "(").replace(", )", ")")


def test_the_plain_triplet() -> None:
    _, function = planned(PLAIN)
    branch = fused_branch(function)
    assert "logits = None" in branch
    branch = one_line(branch)
    assert "causal_lm_loss(hidden_states, self.lm_head, labels, vocab_size=self.config.vocab_size," in branch
    assert "**stock_keywords(kwargs))" in branch


@pytest.mark.parametrize(
    ("before", "argument"),
    [
        ("logits = logits * self.config.scale", "scale=self.config.scale"),
        ("logits = logits / self.config.scale", "divisor=self.config.scale"),
        ("logits = torch.tanh(logits / self.config.cap) * self.config.cap", "softcap=self.config.cap"),
        ("logits = logits + self.final_logits_bias", "vocab_bias=self.final_logits_bias"),
        ("logits = logits[..., : self.config.real_vocab]", "valid_vocab=self.config.real_vocab"),
    ],
)
def test_what_was_recovered_is_handed_on_by_name(before: str, argument: str) -> None:
    _, function = planned(PLAIN.replace("loss = None", f"{before}\nloss = None"))
    assert argument in fused_branch(function)


def test_a_condition_goes_with_its_operand() -> None:
    _, function = planned(
        PLAIN.replace("loss = None", "if flag:\n    logits = logits * self.config.scale\nloss = None")
    )
    assert "scale=self.config.scale if flag else None" in fused_branch(function)


def test_another_order_than_the_kernels_is_not_emitted() -> None:
    cap = "logits = torch.tanh(logits / self.config.cap) * self.config.cap\nlogits = logits * self.config.scale"
    result, _ = planned(PLAIN.replace("loss = None", f"{cap}\nloss = None"))
    assert isinstance(result, PlanRefusal)
    assert result.code == "FG604"


def test_statements_that_need_no_logits_stay_in_the_branch() -> None:
    _, function = planned(PLAIN.replace("loss = None", "self.seen = input_ids.numel()\nloss = None"))
    assert "self.seen = input_ids.numel()" in fused_branch(function)


def test_a_later_statement_on_the_loss_is_kept() -> None:
    _, function = planned(PLAIN.replace("return", "if labels is not None:\n    loss += 0.1 * self.model.aux\nreturn"))
    assert function.count("loss += 0.1") == 1


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        # A return between head and loss that cannot be asked for before would be lost in the fused branch.
        ("loss = None", "if self.model.done(input_ids):\n    return logits\nloss = None", "FG601"),
        # The labels may be None after this, which the guard at the head does not see.
        ("loss = None", "labels = self.model.labels(labels)\nloss = None", "FG601"),
        ("loss = None", NOTE, "FG601"),
        ("loss = None", "a = 1; loss = None", "FG601"),
        # So would a count taken from the logits.
        ("loss = None", "count = logits.shape[1]\nloss = None", None),
        ("return CausalLMOutput(loss=loss", "count = logits.shape[1]\nreturn CausalLMOutput(loss=loss", "FG602"),
        ("logits=logits)", "logits=logits.float())", "FG602"),
        # Only a field that says it holds logits may be None.
        ("logits=logits)", "hidden_states=logits)", "FG602"),
        (
            "return CausalLMOutput(loss=loss, logits=logits)",
            "return tuple(v for v in (loss, logits) if v is not None)",
            "FG606",
        ),
        ("if labels is not None:", "if labels is not None and self.model.done():", "FG601"),
        ("if labels is not None:", "if labels is not None and (count := 1):", "FG601"),
        # The fused call would read what the branch has bound again, or call what the function has by that name.
        ("loss = None", "hidden_states = self.model.norm(hidden_states)\nloss = None", "FG602"),
        ("loss = None", "causal_lm_loss = self.model.aux\nloss = None", "FG604"),
        # Where the inner condition does not hold there is no loss, and nobody would have the logits.
        (f"    {LOSS}", f"    if flag:\n        {LOSS}", "FG601"),
        (f"    {LOSS}", f"    {LOSS}\nelse:\n    self.x = 1", "FG601"),
    ],
)
def test_what_one_branch_cannot_express_is_refused(old: str, new: str, code: str | None) -> None:
    assert old in PLAIN
    result, _ = planned(PLAIN.replace(old, new))
    assert (result.code if isinstance(result, PlanRefusal) else None) == code


@pytest.mark.parametrize(
    ("old", "new", "condition"),
    [
        ("loss = None", "if flag:\n    return logits\nloss = None", "not flag and fusible("),
        ("if labels is not None:", "if labels is not None and flag:", "labels is not None and flag and fusible("),
        ("if labels is not None:", "if flag or labels is not None:", "(flag or labels is not None) and fusible("),
        # What a name or an attribute will hold by then is asked for.
        (
            "loss = None\nif labels is not None:",
            "self.ready = flag\nloss = None\nif labels is not None and self.ready:",
            "labels is not None and flag and fusible(",
        ),
        (
            "loss = None\nif labels is not None:",
            "loss = None\nflag = input_ids\nif labels is not None and flag:",
            "labels is not None and input_ids and fusible(",
        ),
    ],
)
def test_what_the_loss_is_asked_for_by_is_asked_first(old: str, new: str, condition: str) -> None:
    _, function = planned(PLAIN.replace(old, new))
    assert f"        if {condition}self, self.lm_head, labels, loss=" in function


def test_labels_that_are_bound_after_the_head_are_asked_for_as_they_will_be() -> None:
    bound = "labels = labels if flag is None else flag.labels\nloss = None"
    _, function = planned(PLAIN.replace("loss = None", bound))
    assert "fusible(self, self.lm_head, labels if flag is None else flag.labels, loss=" in function
    assert function.count("labels = labels if flag is None else flag.labels\n") == 2


SHIFT = """\
    shift_logits = logits[..., :-1, :].contiguous()
    shift_labels = labels[..., 1:].contiguous()
    loss_fct = CrossEntropyLoss()
    loss = loss_fct(shift_logits.view(-1, self.config.vocab_size), shift_labels.view(-1))"""


def test_rows_are_chosen_on_the_hidden_states() -> None:
    _, function = planned(PLAIN.replace(f"    {LOSS}", SHIFT))
    branch = fused_branch(function)
    assert "shift_hidden_states = hidden_states[..., :-1, :].contiguous()" in branch
    assert "shift_hidden_states,self.lm_head,shift_labels," in "".join(branch.split("cross_entropy_loss(")[1].split())


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        # Rows of other hidden states than those that went into the head.
        ("loss = None", "hidden_states = self.model.norm(hidden_states)\nloss = None", "FG602"),
        # The dtype of hidden states is another one under autocast.
        ("labels[..., 1:].contiguous()", "labels[..., 1:].to(logits.dtype).long()", "FG604"),
        # The new name is one that the function has already.
        ("loss = None", "shift_hidden_states = self.model.aux\nloss = None", "FG604"),
    ],
)
def test_rows_that_would_be_others_are_not_chosen(old: str, new: str, code: str) -> None:
    result, _ = planned(PLAIN.replace(f"    {LOSS}", SHIFT).replace(old, new))
    assert isinstance(result, PlanRefusal)
    assert result.code == code


def test_hidden_states_that_have_the_name_of_the_logits_live_until_the_loss() -> None:
    body = PLAIN.replace("hidden_states = self.model", "logits = self.model").replace("(hidden_states)", "(logits)")
    _, function = planned(body)
    branch = one_line(fused_branch(function))
    assert branch.index("causal_lm_loss(logits, self.lm_head") < branch.index("logits = None")


def test_a_criterion_that_another_loss_needs_as_well_stays() -> None:
    body = PLAIN.replace(
        LOSS,
        "loss_fct = CrossEntropyLoss()\n"
        "    loss = loss_fct(logits.view(-1, self.config.vocab_size), labels.view(-1))\n"
        "    loss = loss + loss_fct(self.model.pooled, flag)",
    )
    _, function = planned(body)
    branch = fused_branch(function)
    assert branch.index("loss_fct = CrossEntropyLoss()") < branch.index("loss + loss_fct(self.model.pooled, flag)")


def test_zero_argument_super_and_the_class_cell_are_planned_for() -> None:
    plain, _ = planned(PLAIN)
    for text in ("super().forward(input_ids)[0]", "__class__.compute(input_ids)[0]"):
        result, function = planned(PLAIN.replace("self.model(input_ids)[0]", text))
        assert isinstance(result, Plan)
        assert result.needs_original
        assert function.count(text) == 1
    assert isinstance(plain, Plan)
    assert not plain.needs_original


def test_a_name_taken_from_the_logits_is_never_silently_none() -> None:
    body = PLAIN.replace("loss = None", "count = logits.shape[1]\nloss = None").replace(
        "logits=logits)", "logits=logits, n=count)"
    )
    result, _ = planned(body)
    assert isinstance(result, PlanRefusal)
    assert result.code == "FG602"


def test_a_criterion_keeps_its_arguments() -> None:
    body = PLAIN.replace(
        LOSS,
        "labels = labels.to(logits.device)\n"
        "    loss_fct = CrossEntropyLoss(ignore_index=0, label_smoothing=0.1)\n"
        "    loss = loss_fct(logits.view(-1, self.config.vocab_size), labels.view(-1))",
    )
    _, function = planned(body)
    branch = fused_branch(function)
    assert "cross_entropy_loss(" in branch
    for argument in ("vocab_size=self.config.vocab_size", "ignore_index=0", "label_smoothing=0.1"):
        assert argument in branch


def test_every_keyword_of_a_generated_call_is_one_of_the_adapter() -> None:
    """The adapters swallow unknown keywords, as the stock losses do: a misspelt one would be lost."""
    import inspect

    from fusegen.codegen.arguments import _ADAPTERS, _ORDER

    runtime = pytest.importorskip("fusegen.runtime", reason="torch and transformers are an extra")
    for kind, name in _ADAPTERS.items():
        parameters = set(inspect.signature(getattr(runtime, name)).parameters)
        own = set(inspect.signature(runtime.causal_lm_loss).parameters) if kind == "masked" else parameters
        assert set(_ORDER) - {"loss_dtype"} <= own, name
    assert "loss_dtype" in inspect.signature(runtime.cross_entropy_loss).parameters


def test_the_names_that_a_function_takes_from_its_module_are_those_that_python_looks_up_there() -> None:
    function = """\
    @decorator
    def forward(self, labels: Labels = DEFAULT):
        from elsewhere import imported
        try:
            sizes = [scale for scale in imported(labels)]
        except ValueError as error:
            raise Problem(str(error))
        return scale(sizes, key=lambda size: size + offset)
"""
    assert free_names(function) == {"decorator", "Labels", "DEFAULT", "Problem", "scale", "offset"}
