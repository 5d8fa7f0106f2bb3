"""Forwards written by hand in the place of known originals."""

from __future__ import annotations

import contextlib
import inspect
import linecache
import textwrap
import types

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from transformers import LlamaForCausalLM, MistralForCausalLM  # noqa: E402

from fusegen.runtime import (  # noqa: E402
    InstallError,
    audit,
    install,
    register_canonical,
    structural_hash,
    uninstall,
    unregister_canonical,
)

pytestmark = pytest.mark.usefixtures("clean_runtime")

LLAMA = "transformers.models.llama.modeling_llama.LlamaForCausalLM"


def by_hand(self, *args, **kwargs):
    return "by hand"


# It can be called like the original, whatever the parameters are in the installed release.
by_hand.__signature__ = inspect.signature(LlamaForCausalLM.forward)


@pytest.fixture
def llama_hash():
    known = structural_hash(LlamaForCausalLM)
    yield known
    with contextlib.suppress(KeyError):
        unregister_canonical(known)


def described(forward: str, init: str = "def __init__(self):\n    self.head = Linear(2, 3)\n") -> type:
    """A class with these methods, whose source can be read."""
    text = "class Example:\n" + textwrap.indent(init + "\n" + forward, "    ")
    name = f"canonical_example_{abs(hash(text))}"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    module = types.ModuleType(name)
    exec(compile(text, name, "exec"), vars(module))
    return module.Example


PLAIN = "def forward(self, x, n=2):\n    return x * n\n"


@pytest.mark.parametrize(
    "same",
    [
        'def forward(self, x, n=2):\n    """Twice."""\n    return x * n\n',
        "def forward(\n    self, x, n=2,\n):\n    # twice\n    return (x*n)\n",
    ],
)
def test_comments_docstrings_and_layout_do_not_count(same):
    assert structural_hash(described(same)) == structural_hash(described(PLAIN))


@pytest.mark.parametrize(
    "other",
    [
        "def forward(self, x, n=3):\n    return x * n\n",
        "def forward(self, x, n=2):\n    return n * x\n",
        "def forward(self, x, n=2):\n    return x * n or None\n",
        "@staticmethod\ndef forward(self, x, n=2):\n    return x * n\n",
        "async def forward(self, x, n=2):\n    return x * n\n",
        'def forward(self, x, n=2):\n    print("Twice.")\n    return x * n\n',
    ],
)
def test_everything_else_does(other):
    assert structural_hash(described(other)) != structural_hash(described(PLAIN))


def test_the_modules_that_the_forward_calls_count():
    """Roberta's causal forward reads as Llama's in some releases, and its head is no linear."""
    other = described(PLAIN, "def __init__(self):\n    self.head = LMHead(2, 3)\n")
    assert structural_hash(other) != structural_hash(described(PLAIN))


def test_the_hash_is_the_same_on_every_python():
    """It was computed once: people keep such numbers in their repositories."""
    assert structural_hash(described(PLAIN)) == "92238c43fce0c54f0178b30e79630ad15a4abe386b5982f5e18b59ac553038da"


def test_a_registered_forward_is_consulted_first(tiny_llama, llama_hash):
    model, batch = tiny_llama
    original = vars(LlamaForCausalLM)["forward"]
    register_canonical(llama_hash, by_hand)
    report = install()
    assert report.tiers[f"{LLAMA}.forward"] == "canonical"
    assert "canonical" in str(report)
    assert {each["name"]: each["tier"] for each in audit()["patched"]}[f"{LLAMA}.forward"] == "canonical"
    assert model(**batch) == "by hand"
    assert structural_hash(LlamaForCausalLM) == llama_hash
    assert install().tiers[f"{LLAMA}.forward"] == "canonical"
    uninstall()
    assert vars(LlamaForCausalLM)["forward"] is original


def test_one_model_gets_it_too(tiny_llama, llama_hash):
    model, batch = tiny_llama
    register_canonical(llama_hash, by_hand)
    assert install(model).tiers == {f"{LLAMA}.forward": "canonical"}
    assert model(**batch) == "by hand"
    assert type(model)(model.config)(**batch).loss is not None


def test_a_copy_of_the_forward_with_other_modules_is_another_original(llama_hash):
    register_canonical(llama_hash, by_hand)
    assert install().tiers["transformers.models.mistral.modeling_mistral.MistralForCausalLM.forward"] == "shipped"
    assert structural_hash(MistralForCausalLM) != llama_hash


def test_strict_takes_the_word_of_who_registered_it(llama_hash, write_llama):
    register_canonical(llama_hash, by_hand)
    assert install(write_llama(), strict=True).tiers == {f"{LLAMA}.forward": "canonical"}


def test_a_forward_that_cannot_be_called_like_the_original_is_refused(llama_hash, write_llama):
    register_canonical(llama_hash, lambda self, input_ids: None)
    report = install(write_llama())
    assert report.tiers == {}
    assert [refused.code for refused in report.refused] == ["FG506"]
    assert "(self, input_ids, attention_mask" in report.refused[0].reason
    with pytest.raises(InstallError, match="FG506"):
        install(write_llama(folder="again"), strict=True)


def test_what_is_no_hash_or_no_function_is_an_error():
    with pytest.raises(ValueError, match="expected 64 hexadecimal digits, got 'llama'"):
        register_canonical("llama", by_hand)
    with pytest.raises(TypeError, match="expected a function, got type"):
        register_canonical("0" * 64, LlamaForCausalLM)
