"""A model that is patched alone is patched as if its class were, for this model only: copies, pickles, garbage."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import subprocess
import sys
import weakref
from textwrap import dedent

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from transformers import LlamaForCausalLM  # noqa: E402

from fusegen.runtime import audit, coverage, fused, install, uninstall  # noqa: E402
from fusegen.runtime.scope import MARK  # noqa: E402

pytestmark = pytest.mark.usefixtures("clean_runtime")


def fuses(model, batch):
    return model(**batch).logits is None


def with_a_head_of_zeros(model):
    model._modules = dict(model._modules)
    model.lm_head = torch.nn.Linear(16, 50, bias=False)
    torch.nn.init.zeros_(model.lm_head.weight)
    return model


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, LlamaForCausalLM._replicate_for_data_parallel])
def test_a_copy_runs_its_own_parameters_and_is_patched(tiny_llama, way):
    model, batch = tiny_llama
    install(model)
    twin = way(model)
    if way is LlamaForCausalLM._replicate_for_data_parallel:
        twin._modules = model._modules
    twin = with_a_head_of_zeros(twin)
    output = twin(**batch)
    assert output.logits is None
    torch.testing.assert_close(output.loss, torch.tensor(50.0).log())
    assert sum(each["instances"] for each in audit()["patched"]) == 2
    uninstall(model)
    assert not fuses(model, batch)
    assert fuses(twin, batch)
    uninstall()
    assert not fuses(twin, batch)
    assert MARK not in vars(twin)


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def saved(model):
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


@pytest.mark.parametrize("way", [pickled, saved])
def test_a_pickle_is_a_stock_model_that_a_later_install_reaches(tiny_llama, way):
    model, batch = tiny_llama
    install(model)
    loaded = way(model)
    counted = coverage()
    assert not fuses(loaded, batch)
    assert coverage() == counted
    assert "forward" not in vars(loaded)
    uninstall()
    install()
    assert fuses(loaded, batch)
    assert fuses(way(loaded), batch)


def test_a_pickle_is_loaded_where_there_is_no_fusegen(tiny_llama, tmp_path):
    """As a spawned process does, which has not called `install()`."""
    model, batch = tiny_llama
    install(model)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps((model, batch)))
    program = """
        import pickle, sys
        sys.modules["fusegen"] = None
        model, batch = pickle.load(open("model.pickle", "rb"))
        print(model(**batch).logits is None, "forward" in vars(model))
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("False False\n", 0), done.stderr


def test_a_model_is_freed_as_soon_as_nobody_has_it(tiny_llama):
    model = copy.deepcopy(tiny_llama[0])
    gc.collect()
    gc.disable()
    try:
        install(model)
        weight = weakref.ref(model.lm_head.weight)
        del model
        assert weight() is None
    finally:
        gc.enable()


def test_the_class_is_restored_with_the_last_model(tiny_llama):
    model, batch = tiny_llama
    original, other = vars(LlamaForCausalLM)["forward"], copy.deepcopy(model)
    install(model)
    with fused(other):
        assert fuses(other, batch)
        uninstall(model)
        assert not fuses(model, batch)
        assert fuses(other, batch)
    assert vars(LlamaForCausalLM)["forward"] is original


def test_one_model_and_the_process_do_not_disturb_each_other(tiny_llama, fused_llama):
    model, batch = tiny_llama
    original, other = vars(LlamaForCausalLM)["forward"], copy.deepcopy(model)
    install(model)
    install(fused_llama)
    assert sorted(each["tier"] for each in audit()["patched"]) == ["given", "shipped"]
    assert fuses(model, batch)
    assert fuses(other, batch)
    uninstall(model)
    assert fuses(model, batch)
    uninstall()
    assert vars(LlamaForCausalLM)["forward"] is original
    assert not fuses(model, batch)


def test_what_is_compiled_follows(tiny_llama):
    """The first call of each of these is compiled for what is in force then."""
    model, batch = tiny_llama
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert not fuses(compiled, batch)
    for _ in range(2):
        install(model)
        assert fuses(compiled, batch)
        uninstall(model)
        assert not fuses(compiled, batch)
    install()
    assert fuses(compiled, batch)
    uninstall()
    assert not fuses(compiled, batch)
    torch._dynamo.reset()
