from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.mark.parametrize(
    "name",
    ["GemmaForCausalLM", "gemma.GemmaForCausalLM", "GemmaForCausalLM.forward", "gemma.GemmaForCausalLM.forward"],
)
def test_a_site_has_many_names(fusegen: Run, tree: Path, name: str) -> None:
    result = fusegen("explain", name, "--source", tree)
    assert result.exit_code == 0
    assert result.stdout.startswith("gemma.GemmaForCausalLM.forward: match\n")


def test_the_chain_stands_beside_its_lines(fusegen: Run, tree: Path) -> None:
    lines = fusegen("explain", "GemmaForCausalLM", "--source", tree).stdout.splitlines()
    marked = {line.split("|")[1].strip(): line.split("|")[0].split()[:-1] for line in lines if " | " in line}
    assert "head" in marked["logits = self.lm_head(outputs.last_hidden_state)"][0]
    assert any("soft_cap" in " ".join(marks) for marks in marked.values())
    assert marked["loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size, **kwargs)"] == [
        "loss"
    ]
    assert "def forward(self, input_ids=None, labels=None, **kwargs):" in marked


def test_a_rejection_says_what_would_help(fusegen: Run, tree: Path) -> None:
    text = fusegen("explain", "EditedForCausalLM", "--source", tree).stdout
    assert "edited.EditedForCausalLM.forward: reject" in text
    assert "would help" in text


def test_an_aside_is_explained_too(fusegen: Run, tree: Path) -> None:
    result = fusegen("explain", "BirdForSequenceClassification", "--source", tree)
    assert result.exit_code == 0
    assert "models/bird/modeling_bird.py:" in result.stdout
    assert "is no site:" in result.stdout


def test_a_class_without_a_loss_says_so(fusegen: Run, tree: Path) -> None:
    result = fusegen("explain", "LlamaModel", "--source", tree)
    assert result.exit_code == 0
    assert result.stdout == (
        "models/llama/modeling_llama.py:21: LlamaModel: no cross-entropy over a vocabulary was found in it, "
        "and no labels that it hands on.\n"
    )


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("LlamaForCausal", "LlamaForCausalLM"),
        ("gemma.LlamaForCausalLM", "llama.LlamaForCausalLM"),
        ("gema.GemmaForCausalLM", "gemma.GemmaForCausalLM"),
    ],
)
def test_an_unknown_name_is_status_2_with_what_comes_close(fusegen: Run, tree: Path, name: str, close: str) -> None:
    result = fusegen("explain", name, "--source", tree)
    assert result.exit_code == 2
    assert f"no modeling file has a class or function '{name}'. Did you mean {close}" in result.stderr


def test_json_is_the_report_on_this_class_alone(fusegen: Run, tree: Path) -> None:
    document = json.loads(fusegen("explain", "llama.LlamaForCausalLM", "--source", tree, "--format", "json").stdout)
    assert [site["id"] for site in document["sites"]] == ["llama.LlamaForCausalLM.forward"]
    assert document["out_of_scope"] == []


def test_a_name_in_two_models_shows_both(fusegen: Run, tree: Path) -> None:
    (tree / "models/llama2").mkdir()
    text = (tree / "models/llama/modeling_llama.py").read_text()
    (tree / "models/llama2/modeling_llama2.py").write_text(text)
    shown = fusegen("explain", "LlamaForCausalLM", "--source", tree).stdout
    assert "llama.LlamaForCausalLM.forward: match" in shown
    assert "llama2.LlamaForCausalLM.forward: match" in shown
    assert "llama.Llama" not in fusegen("explain", "llama2.LlamaForCausalLM", "--source", tree).stdout


def test_lines_are_those_of_the_file_whatever_its_encoding(fusegen: Run, tree: Path) -> None:
    path = tree / "models/llama/modeling_llama.py"
    text = (
        path.read_text()
        .replace("        loss = None\n", "        loss = None  # caf\xe9\n")
        .replace("import torch", "\x0c")
    )
    path.write_bytes(f"# coding: latin-1\n{text}".encode("latin-1"))
    shown = fusegen("explain", "LlamaForCausalLM", "--source", tree).stdout
    assert "16 |     loss = None  # caf\xe9" in shown
    assert "18 |         loss = self.loss_function(" in shown


def test_nothing_is_said_of_a_class_whose_file_cannot_be_read(fusegen: Run, tree: Path) -> None:
    path = tree / "models/llama/modeling_llama.py"
    path.write_text(path.read_text().replace("        loss = None\n", "        loss = (\n"))
    result = fusegen("explain", "LlamaForCausalLM", "--source", tree)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "not Python" in result.stderr
