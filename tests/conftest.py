"""A small transformers tree on disk, and an environment without the user's settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Tensors here are tiny: threads that wait for each other cost more than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run of CI: a change is judged by what it changed. Elsewhere they vary.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

LLAMA = """\
import torch
from torch import nn


class LlamaForCausalLM(LlamaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids=None, labels=None, **kwargs):
        outputs = self.model(input_ids=input_ids)
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits)


class LlamaModel(LlamaPreTrainedModel):
    def forward(self, input_ids=None):
        return self.layers(input_ids)
"""

GEMMA = LLAMA.replace("Llama", "Gemma").replace(
    "        loss = None\n",
    "        logits = logits / self.config.cap\n"
    "        logits = torch.tanh(logits)\n"
    "        logits = logits * self.config.cap\n"
    "        loss = None\n",
)

EDITED = LLAMA.replace("Llama", "Edited").replace(
    "        loss = None\n", "        logits[:, :, 7] = float('-inf')\n        loss = None\n"
)

CLASSIFIER = """\
from torch.nn import CrossEntropyLoss


class BirdForSequenceClassification(BirdPreTrainedModel):
    def forward(self, input_ids=None, labels=None):
        logits = self.classifier(self.bird(input_ids))
        loss = CrossEntropyLoss()(logits.view(-1, self.num_labels), labels.view(-1))
        return loss, logits
"""

DEFAULT_FILES = {
    "__init__.py": '__version__ = "5.99.0"\n',
    "loss/loss_utils.py": 'LOSS_MAPPING = {"ForCausalLM": ForCausalLMLoss}\n',
    "models/llama/modeling_llama.py": LLAMA,
    "models/gemma/modeling_gemma.py": GEMMA,
    "models/edited/modeling_edited.py": EDITED,
    "models/bird/modeling_bird.py": CLASSIFIER,
    "models/bird/configuration_bird.py": "class BirdConfig: ...\n",
    "models/deprecated/old/modeling_old.py": LLAMA.replace("Llama", "Old"),
}


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "FUSEGEN_OUTPUT_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FUSEGEN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def write_tree(tmp_path: Path) -> Callable[..., Path]:
    """Writes `transformers/` below a folder (default: a fresh one) and gives the package's path."""

    def write(files: dict[str, str | bytes] | None = None, *, into: Path | None = None) -> Path:
        root = (into or tmp_path / "site-packages") / "transformers"
        for name, content in (DEFAULT_FILES if files is None else files).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root

    return write


@pytest.fixture
def tree(write_tree: Callable[..., Path]) -> Path:
    """A package with a plain head, a soft cap, an edit in place, a classifier and a deprecated model."""
    return write_tree()
