"""`if a: loss = ... elif b: loss = ...`: the edit is right or refused, and a wrong one spoils nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusegen.codegen import emit as emitting
from fusegen.codegen.one_module import ModuleEmission, emit_module
from fusegen.codegen.plan import Edit
from fusegen.codegen.sources import open_source

CLASS = """\


class {name}ForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids=None, labels=None, **kwargs):
        hidden_states = self.model(input_ids)[0]
        logits = self.lm_head(hidden_states)
        loss = None
        if labels is not None and self.training:
            {first}
        elif labels is not None:
            {second}
        return CausalLMOutput(loss=loss, logits=logits)
"""
IMPORTS = "from torch import nn\nfrom transformers.modeling_outputs import CausalLMOutput\n"
LOSS = "loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)"
TWICE = LOSS.replace("logits=logits", "logits=logits * 2")


def choice(name: str = "Bird", first: str = LOSS, second: str = TWICE) -> str:
    return CLASS.format(name=name, first=first, second=second)


def emitted(text: str) -> ModuleEmission:
    emission = emit_module("bird.modeling_bird", (IMPORTS + text).encode(), "1", source_version="1", loss_utils=None)
    assert not emission.failures
    return emission


def test_each_branch_has_its_own_fused_loss() -> None:
    text = emitted(choice()).text
    assert text is not None
    lines = [line.strip() for line in text[text.index("if fusible(") :].split("\n")]
    assert lines[2:4] == ["logits = None", "if labels is not None and self.training:"]
    assert sum("causal_lm_loss(" in line for line in lines) == 2
    assert sum("scale=2" in line for line in lines) == 1


@pytest.mark.parametrize("second", ["aux = 1", "aux = logits.sum()", "pass"])
def test_a_branch_without_a_loss_is_refused(second: str) -> None:
    emission = emitted(choice(second=second))
    assert emission.text is None
    assert [each.code for each in emission.unmatched] == ["FG601"]


def wrong_tree(folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> emitting.Emission:
    """What is emitted for three classes in two files, where the edit of one comes out wrong."""
    (folder / "__init__.py").touch()
    for model, text in {"bird": choice() + choice("Wrong"), "fish": choice("Fish")}.items():
        (folder / "models" / model).mkdir(parents=True)
        (folder / "models" / model / f"modeling_{model}.py").write_text(IMPORTS + text)
    plan = emitting.plan

    def planned(site, analysis):  # type: ignore[no-untyped-def]
        result = plan(site, analysis)
        if site.class_name.startswith("Wrong"):
            if error is not None:
                raise error
            (edit,) = result.edits
            fields = {name: getattr(edit, name) for name in edit.__match_args__}
            object.__setattr__(result, "edits", (Edit(**fields | {"labels": "labels ="}),))
        return result

    monkeypatch.setattr(emitting, "plan", planned)
    return emitting.emit(open_source(str(folder)), "1", jobs=1)


@pytest.mark.parametrize("error", [None, KeyError("something")])
def test_an_edit_that_comes_out_wrong_is_left_out_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    emission = wrong_tree(tmp_path, monkeypatch, error)
    assert [(each.code, "Wrong" in each.site) for each in emission.not_emitted] == [("FG608", True)]
    assert sorted(site.class_name for site in emission.emitted) == ["BirdForCausalLM", "FishForCausalLM"]
    (failure,) = emission.failures
    assert failure.internal
    assert failure.file.endswith("modeling_bird.py")
    compile(emission.files["bird/modeling_bird.py"], "bird", "exec")


def test_a_file_whose_only_edit_is_wrong_yields_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusegen.codegen.render.fused_function", lambda *_: "    def forward(self:\n")
    emission = emit_module("bird.birds", (IMPORTS + choice()).encode(), "1", source_version="1", loss_utils=None)
    assert emission.text is None
    assert [each.code for each in emission.unmatched] == ["FG608"]
    assert [failure.internal for failure in emission.failures] == [True]
