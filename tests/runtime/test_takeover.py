"""fusegen imported a second time, after its modules were dropped, as notebooks and test runners do."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import pytest

pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

TWICE = dedent(
    """
    import copy, sys
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    original, finders = LlamaForCausalLM.forward, list(sys.meta_path)
    config = LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=2)
    alone, other = (LlamaForCausalLM(config).train() for _ in range(2))
    ids = torch.arange(8)[None]

    def again():
        for name in [name for name in sys.modules if name.partition(".")[0] == "fusegen"]:
            del sys.modules[name]
        import fusegen
        return fusegen

    def fuses(model):
        return model(ids, labels=ids).logits is None
    """
)


def run(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", TWICE + dedent(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "FG502" not in done.stdout + done.stderr
    return done.stdout.splitlines()


def test_the_second_takes_over_what_the_first_had_patched():
    """Every class and every marked model, the policy, and the watch over imports; and gives all of it back."""
    assert run(
        """
        first = again()
        first.install(fuse="always")
        second = again()
        print(second.audit()["policy"], second.audit()["refused"], fuses(other.eval()), second.coverage())
        print(second.install().refused, len(second.audit()["patched"]), len(sys.meta_path) - len(finders))
        second.uninstall()
        print(LlamaForCausalLM.forward is original, sys.meta_path == finders, first.audit()["patched"])
        """
    ) == [
        "always [] True {'transformers.models.llama.modeling_llama.LlamaForCausalLM': {'fused': 1}}",
        "() 1 1",
        "True True []",
    ]


def test_a_model_that_was_patched_alone_stays_so_and_no_other_is():
    assert run(
        """
        again().install(alone)
        second = again()
        second.coverage()
        print(fuses(alone), fuses(copy.deepcopy(alone)), fuses(other))
        second.uninstall(alone)
        print(fuses(alone), LlamaForCausalLM.forward is original)
        """
    ) == ["True True False", "False True"]
