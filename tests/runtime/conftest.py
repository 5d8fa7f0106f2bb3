"""A tiny Llama, and generated trees written by hand."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from textwrap import dedent

import pytest

FUSED_FORWARD = dedent(
    """
    import transformers.models.llama.modeling_llama as _source
    from fusegen.runtime import causal_lm_loss, fusible
    from transformers.models.llama.modeling_llama import CausalLMOutputWithPast, slice_logits_to_keep


    class LlamaForCausalLM(_source.LlamaForCausalLM):
        def forward(self, input_ids=None, attention_mask=None, position_ids=None, cache=None, inputs_embeds=None,
                    labels=None, use_cache=None, logits_to_keep=0, **kwargs):
            outputs = self.model(input_ids=input_ids, **kwargs)
            hidden_states = slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep)
            if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
                logits = None
                loss = causal_lm_loss(hidden_states, self.lm_head, labels, vocab_size=self.config.vocab_size, **kwargs)
            else:
                logits = self.lm_head(hidden_states)
                loss = None
                if labels is not None:
                    loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
            return CausalLMOutputWithPast(loss=loss, logits=logits)
    """
)


@pytest.fixture
def tiny_llama():
    """A random Llama in training, and a batch with labels."""
    torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
    pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).train()
    input_ids = torch.randint(0, 50, (2, 7))
    labels = input_ids.masked_fill(torch.rand(2, 7) < 0.3, -100)
    return model, {"input_ids": input_ids, "labels": labels}


@pytest.fixture
def write_tree(tmp_path):
    """Writes a generated tree and returns its folder: `write_tree(LlamaForCausalLM=text, sha256=None)`.

    `verified` is the version of transformers for which all of it is said to be verified.
    """
    from importlib.util import find_spec

    root = Path(find_spec("transformers").submodule_search_locations[0])

    def write(sha256: str | None = None, folder: str = "tree", verified: str | None = None, **modules: str) -> Path:
        classes = []
        for name, text in modules.items():
            model = name.removesuffix("ForCausalLM").lower()
            file = f"models/{model}/modeling_{model}.py"
            target = tmp_path / folder / model / f"modeling_{model}.py"
            target.parent.mkdir(parents=True)
            (target.parent / "__init__.py").touch()
            target.write_text(text)
            classes.append(
                {
                    "model": model,
                    "class": name,
                    "method": "forward",
                    "file": file,
                    "sha256": sha256 or hashlib.sha256((root / file).read_bytes()).hexdigest(),
                    "module": f"{model}.modeling_{model}",
                    **({"verified": {"version": verified, "checks": {}}} if verified else {}),
                }
            )
        manifest = {
            "schema_version": 1,
            "tool": {"name": "fusegen", "version": "0"},
            "source": {"package": "transformers", "version": "5.23.0"},
            "classes": classes,
        }
        (tmp_path / folder / "manifest.json").write_text(json.dumps(manifest))
        return tmp_path / folder

    return write


@pytest.fixture
def write_llama(write_tree):
    """`write_tree` with one class, a Llama whose loss is fused."""
    return partial(write_tree, LlamaForCausalLM=FUSED_FORWARD)


@pytest.fixture
def fused_llama(write_llama):
    """The folder of a tree with one class, a Llama whose loss is fused."""
    return write_llama()


@pytest.fixture
def clean_runtime(monkeypatch):
    """Nothing installed, nothing counted, no policy but the default; before the test and after it."""
    pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
    from fusegen.runtime import uninstall
    from fusegen.runtime.calls import reset_coverage

    monkeypatch.delenv("FUSEGEN_FUSE", raising=False)
    uninstall()
    reset_coverage()
    yield
    uninstall()
    reset_coverage()


@pytest.fixture
def mesh():
    """A mesh of this process alone."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()
