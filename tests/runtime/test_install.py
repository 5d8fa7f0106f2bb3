"""Putting a generated tree on real transformers classes, and taking it off."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import SourceFileLoader

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
transformers = pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from transformers import LlamaForCausalLM  # noqa: E402

from fusegen.runtime import InstallError, audit, bodies, coverage, fused, install, uninstall  # noqa: E402
from fusegen.runtime.policy import policy  # noqa: E402

pytestmark = pytest.mark.usefixtures("clean_runtime")

LLAMA = "transformers.models.llama.modeling_llama.LlamaForCausalLM"
OLMO = "transformers.models.olmo.modeling_olmo"
OLMO_FORWARD = """
import transformers.models.olmo.modeling_olmo as _source


class OlmoForCausalLM(_source.OlmoForCausalLM):
    def forward(self, input_ids=None, attention_mask=None, position_ids=None, cache=None, inputs_embeds=None,
                labels=None, use_cache=None, logits_to_keep=0, **kwargs):
        return "generated"
"""


@pytest.fixture
def olmo_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, OLMO, raising=False)
    yield
    sys.modules.pop(OLMO, None)


def source_file(function):
    return inspect.getsourcefile(inspect.unwrap(function))


def loss_and_gradients(model, batch):
    model.zero_grad()
    output = model(**batch)
    output.loss.backward()
    return output, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("extra", [{}, {"num_items_in_batch": torch.tensor(9)}])
def test_an_installed_model_trains_the_same(tiny_llama, fused_llama, extra):
    model, batch = tiny_llama
    before, gradients = loss_and_gradients(model, batch | extra)
    report = install(fused_llama)
    assert report.installed == (f"{LLAMA}.forward",)
    after, fused_gradients = loss_and_gradients(model, batch | extra)
    assert before.logits is not None
    assert after.logits is None
    torch.testing.assert_close(after.loss, before.loss)
    torch.testing.assert_close(fused_gradients, gradients)
    assert coverage() == {LLAMA: {"fused": 1}}


def test_evaluation_keeps_its_logits(tiny_llama, fused_llama):
    model, batch = tiny_llama
    model.eval()
    before = model(**batch)
    install(fused_llama)
    after = model(**batch)
    torch.testing.assert_close((after.loss, after.logits), (before.loss, before.logits))
    with fused():
        assert model(**batch).logits is None
    assert model(batch["input_ids"]).loss is None


def test_the_class_stays_what_it_is_and_uninstall_restores_it(fused_llama):
    original = vars(LlamaForCausalLM)["forward"]
    install(fused_llama)
    generated = vars(LlamaForCausalLM)["forward"]
    assert generated is not original
    assert source_file(generated).startswith(str(fused_llama))
    assert LlamaForCausalLM.__name__ == "LlamaForCausalLM"
    again = install(fused_llama)
    assert vars(LlamaForCausalLM)["forward"] is generated
    assert again.installed == (f"{LLAMA}.forward",)
    uninstall()
    assert vars(LlamaForCausalLM)["forward"] is original
    uninstall()
    assert vars(LlamaForCausalLM)["forward"] is original


def test_a_forward_is_called_as_before():
    original, signature = vars(LlamaForCausalLM)["forward"], inspect.signature(LlamaForCausalLM.forward)
    install()
    assert vars(LlamaForCausalLM)["forward"] is not original
    assert inspect.signature(LlamaForCausalLM.forward) == signature


def test_another_tree_replaces_the_first(write_tree, fused_llama):
    original = vars(LlamaForCausalLM)["forward"]
    install(fused_llama)
    first = vars(LlamaForCausalLM)["forward"]
    text = (fused_llama / "llama/modeling_llama.py").read_text()
    second = write_tree(folder="second", LlamaForCausalLM=text)
    install(second)
    assert vars(LlamaForCausalLM)["forward"] not in (first, original)
    uninstall()
    assert vars(LlamaForCausalLM)["forward"] is original


def test_a_tree_that_was_generated_again_replaces_what_was_imported_from_it(write_tree, olmo_not_imported):
    module = importlib.import_module(OLMO)
    tree = write_tree(OlmoForCausalLM=OLMO_FORWARD)
    install(tree)
    (tree / "olmo/modeling_olmo.py").write_text(OLMO_FORWARD.replace('"generated"', '"generated again"'))
    manifest = json.loads((tree / "manifest.json").read_text())
    (tree / "manifest.json").write_text(json.dumps(manifest | {"files": {"olmo/modeling_olmo.py": "another hash"}}))
    importlib.invalidate_caches()
    install(tree)
    assert module.OlmoForCausalLM.forward(None) == "generated again"
    uninstall()
    assert source_file(module.OlmoForCausalLM.forward) == module.__file__


def test_an_importable_package_is_named(fused_llama, monkeypatch):
    monkeypatch.syspath_prepend(fused_llama.parent)
    assert install("tree").installed == (f"{LLAMA}.forward",)
    uninstall()
    for name in [name for name in sys.modules if name.partition(".")[0] == "tree"]:
        del sys.modules[name]


def test_a_stale_forward_is_generated_anew_and_never_used(write_tree, tiny_llama):
    model, batch = tiny_llama
    before, gradients = loss_and_gradients(model, batch)
    tree = write_tree(sha256="0" * 64, LlamaForCausalLM="raise AssertionError('never imported')")
    assert install(tree).tiers == {f"{LLAMA}.forward": "in-memory"}
    after, fused_gradients = loss_and_gradients(model, batch)
    assert after.logits is None
    torch.testing.assert_close((after.loss, fused_gradients), (before.loss, gradients))


def test_a_stale_forward_is_refused_under_strict(write_tree):
    original = vars(LlamaForCausalLM)["forward"]
    tree = write_tree(sha256="0" * 64, LlamaForCausalLM="raise AssertionError('never imported')")
    with pytest.raises(InstallError, match="FG501 the installed modeling file is not the one") as error:
        install(tree, strict=True)
    assert [refused.name for refused in error.value.report.refused] == [f"{LLAMA}.forward"]
    assert vars(LlamaForCausalLM)["forward"] is original


def test_of_a_given_tree_only_its_own_classes_are_generated_anew(write_tree):
    stale = write_tree(sha256="0" * 64, LlamaForCausalLM="")
    manifest = json.loads((stale / "manifest.json").read_text())
    manifest["classes"][0]["class"] = "LlamaForTokenClassification"
    (stale / "manifest.json").write_text(json.dumps(manifest))
    report = install(stale)
    assert report.tiers == {}
    assert [refused.code for refused in report.refused] == ["FG501"]
    assert "none can be generated" in report.refused[0].reason


def test_strict_raises_before_anything_is_patched(write_llama, olmo_not_imported):
    tree = write_llama(verified=transformers.__version__)
    manifest = json.loads((tree / "manifest.json").read_text())
    llama = manifest["classes"][0]
    manifest["classes"].append(llama | {"class": "NoSuchClass"})
    manifest["classes"].append(llama | {"file": "models/none/modeling_none.py", "class": "NoneForCausalLM"})
    (tree / "manifest.json").write_text(json.dumps(manifest))
    original = vars(LlamaForCausalLM)["forward"]
    with pytest.raises(InstallError, match="2 refused") as error:
        install(tree, strict=True, fuse="always")
    assert [refused.code for refused in error.value.report.refused] == ["FG503", "FG503"]
    assert vars(LlamaForCausalLM)["forward"] is original
    assert policy.fuse == "training"
    assert len(install(tree).installed) == 1


def test_strict_uses_what_is_verified_for_the_installed_version(write_llama):
    tree = write_llama(verified=transformers.__version__)
    assert install(tree, strict=True).tiers == {f"{LLAMA}.forward": "given"}


@pytest.mark.parametrize("verified", [None, "4.0.0"])
def test_strict_refuses_what_is_not_verified_for_the_installed_version(write_llama, verified):
    with pytest.raises(InstallError, match=r"1 refused\n.*FG505"):
        install(write_llama(verified=verified), strict=True)


def test_strict_refuses_a_module_when_it_is_imported(write_llama, olmo_not_imported):
    """A class that nobody imports hinders nobody."""
    tree = write_llama(verified=transformers.__version__, OlmoForCausalLM=OLMO_FORWARD)
    manifest = json.loads((tree / "manifest.json").read_text())
    del manifest["classes"][1]["verified"]
    (tree / "manifest.json").write_text(json.dumps(manifest))
    report = install(tree, strict=True)
    assert report.tiers == {f"{LLAMA}.forward": "given"}
    assert [(refused.name, refused.code) for refused in report.refused] == [
        (f"{OLMO}.OlmoForCausalLM.forward", "FG505")
    ]
    for _ in range(2):
        with pytest.raises(InstallError, match=r"OlmoForCausalLM.forward: FG505(.|\n)*olmo is not imported"):
            importlib.import_module(OLMO)
        assert OLMO not in sys.modules
    uninstall()
    module = importlib.import_module(OLMO)
    assert source_file(module.OlmoForCausalLM.forward) == module.__file__
    with pytest.raises(InstallError, match="FG505"):
        install(tree, strict=True)


def test_strict_raises_where_nothing_is_left_that_could_be_imported(write_tree, olmo_not_imported, monkeypatch):
    finders = list(sys.meta_path)
    tree = write_tree(verified="4.0.0", OlmoForCausalLM=OLMO_FORWARD)
    with pytest.raises(InstallError, match=rf"FG505(.|\n)*is verified for transformers {transformers.__version__}\."):
        install(tree, strict=True)
    monkeypatch.setattr(bodies, "installed_version", lambda package: "99.0.0")
    with pytest.raises(InstallError, match="FG505"):
        install(strict=True)
    assert sys.meta_path == finders


def test_strict_with_the_tree_that_ships():
    """In a process of its own, where nothing is imported yet."""
    program = (
        "import fusegen; report = fusegen.install(strict=True); from transformers import LlamaForCausalLM; "
        "print(len(report.pending) > 300, [each['verified'] for each in fusegen.audit()['patched']])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True [True]\n"


def test_a_long_report_names_some_of_each_code_and_counts_the_others(write_llama):
    tree = write_llama()
    manifest = json.loads((tree / "manifest.json").read_text())
    manifest["classes"] = [manifest["classes"][0] | {"class": f"Class{number}"} for number in range(9)]
    (tree / "manifest.json").write_text(json.dumps(manifest))
    lines = str(install(tree)).splitlines()
    assert lines[0] == "0 installed, 0 pending import, 9 refused"
    assert len(lines) == 7
    assert lines[-1] == "... and 4 more: FG503"


@pytest.mark.parametrize("wraps", [False, True])
def test_a_forward_that_somebody_else_patched_is_refused(fused_llama, monkeypatch, wraps):
    original = LlamaForCausalLM.forward

    def forward(self, *args, **kwargs):
        return original(self, *args, **kwargs)

    theirs = functools.wraps(original)(forward) if wraps else forward
    monkeypatch.setattr(LlamaForCausalLM, "forward", theirs)
    report = install(fused_llama)
    assert [refused.code for refused in report.refused] == ["FG502"]
    assert f"patched the method already: {__name__}.test_a_forward" in report.refused[0].reason
    assert vars(LlamaForCausalLM)["forward"] is theirs


def test_a_class_that_somebody_else_has_put_in_the_place_of_the_original_is_refused(fused_llama, monkeypatch):
    module = sys.modules[LlamaForCausalLM.__module__]
    theirs = type("LlamaForCausalLM", (LlamaForCausalLM,), {"forward": lambda self: None, "__module__": "acme.fast"})
    monkeypatch.setattr(module, "LlamaForCausalLM", theirs)
    report = install(fused_llama)
    assert [refused.code for refused in report.refused] == ["FG502"]
    assert "acme.fast" in report.refused[0].reason


def test_uninstall_leaves_what_was_patched_on_top(fused_llama, monkeypatch, caplog):
    monkeypatch.setattr(LlamaForCausalLM, "forward", LlamaForCausalLM.forward)
    install(fused_llama)
    LlamaForCausalLM.forward = on_top = lambda self: None
    uninstall()
    assert vars(LlamaForCausalLM)["forward"] is on_top
    assert "patched again" in caplog.text


def test_what_a_patch_on_top_gives_back_is_taken_off_by_the_next_uninstall(fused_llama, monkeypatch):
    original = vars(LlamaForCausalLM)["forward"]
    monkeypatch.setattr(LlamaForCausalLM, "forward", original)
    install(fused_llama)
    ours = LlamaForCausalLM.forward
    LlamaForCausalLM.forward = lambda self, *args, **kwargs: ours(self, *args, **kwargs)
    uninstall()
    LlamaForCausalLM.forward = ours
    assert [each["name"] for each in audit()["patched"]] == [f"{LLAMA}.forward"]
    assert install(fused_llama).refused == ()
    uninstall()
    assert vars(LlamaForCausalLM)["forward"] is original
    assert audit()["refused"] == []


def test_what_is_replaced_by_name_in_the_file_is_seen_by_the_forward(write_tree, olmo_not_imported, monkeypatch):
    module = importlib.import_module(OLMO)
    imports = "from transformers.models.olmo.modeling_olmo import slice_logits_to_keep\n"
    tree = write_tree(OlmoForCausalLM=imports + OLMO_FORWARD.replace('"generated"', "slice_logits_to_keep"))
    install(tree)
    assert module.OlmoForCausalLM.forward(None) is module.slice_logits_to_keep
    monkeypatch.setattr(module, "slice_logits_to_keep", "theirs")
    assert module.OlmoForCausalLM.forward(None) == "theirs"


def test_a_generated_module_that_fails_is_refused(write_tree, caplog):
    original = vars(LlamaForCausalLM)["forward"]
    report = install(write_tree(LlamaForCausalLM="raise RuntimeError('broken on purpose')"))
    assert [refused.code for refused in report.refused] == ["FG504"]
    assert "broken on purpose" in caplog.text
    assert vars(LlamaForCausalLM)["forward"] is original


def test_a_module_is_patched_when_it_is_imported(write_tree, olmo_not_imported):
    tree = write_tree(OlmoForCausalLM=OLMO_FORWARD)
    report = install(tree)
    assert report.pending == (f"{OLMO}.OlmoForCausalLM.forward",)
    assert OLMO not in sys.modules
    module = importlib.import_module(OLMO)
    assert module.OlmoForCausalLM.forward(None) == "generated"
    assert install(tree).installed == report.pending
    uninstall()
    assert source_file(module.OlmoForCausalLM.forward) == module.__file__


def test_a_watched_module_has_a_genuine_loader(write_tree, olmo_not_imported):
    install(write_tree(OlmoForCausalLM=OLMO_FORWARD))
    module = importlib.import_module(OLMO)
    loader = module.__spec__.loader
    assert type(loader) is SourceFileLoader
    assert module.__loader__ is loader
    assert not {"exec_module"} & set(vars(loader))
    assert "class OlmoForCausalLM" in loader.get_source(OLMO)
    assert loader.get_code(OLMO).co_filename == module.__file__
    assert pickle.loads(pickle.dumps(module.OlmoForCausalLM)) is module.OlmoForCausalLM


def test_a_reload_is_patched_again(write_tree, olmo_not_imported):
    install(write_tree(OlmoForCausalLM=OLMO_FORWARD))
    module = importlib.reload(importlib.import_module(OLMO))
    assert module.OlmoForCausalLM.forward(None) == "generated"


def test_threads_that_import_at_the_same_time(write_tree, olmo_not_imported):
    tree = write_tree(OlmoForCausalLM=OLMO_FORWARD)

    def work(index):
        if index % 2:
            install(tree)
        return importlib.import_module(OLMO)

    with ThreadPoolExecutor(8) as pool:
        modules = set(pool.map(work, range(16), timeout=60))
    assert len(modules) == 1
    assert modules.pop().OlmoForCausalLM.forward(None) == "generated"


def test_uninstall_stops_watching(write_tree, olmo_not_imported):
    finders = list(sys.meta_path)
    install(write_tree(OlmoForCausalLM=OLMO_FORWARD))
    uninstall()
    assert sys.meta_path == finders
    module = importlib.import_module(OLMO)
    assert source_file(module.OlmoForCausalLM.forward) == module.__file__


def test_install_sets_the_policy(fused_llama):
    install(fused_llama, fuse="never")
    assert policy.fuse == "never"
    install(fused_llama)
    assert policy.fuse == "never"
    uninstall()
    assert policy.fuse == "training"
    with pytest.raises(ValueError, match="fuse: expected one of"):
        install(fused_llama, fuse="maybe")


def test_a_release_older_than_the_oldest_supported_one_is_left_alone(tiny_llama, monkeypatch):
    finders = list(sys.meta_path)
    monkeypatch.setattr("transformers.__version__", "4.55.4")
    for target in (None, tiny_llama[0]):
        with pytest.raises(ImportError, match=r"transformers 4\.55\.4 is older than 4\.56"):
            install(target)
    assert sys.meta_path == finders
    assert "forward" not in vars(tiny_llama[0])


def test_a_tree_that_cannot_be_read(tmp_path, fused_llama):
    with pytest.raises(ModuleNotFoundError, match="no_such_tree"):
        install("no_such_tree")
    for folder in (tmp_path, str(tmp_path), "no/such/tree"):
        with pytest.raises(FileNotFoundError, match=r"has no manifest.json. Write it with 'fusegen emit --out"):
            install(folder)
    with pytest.raises(TypeError, match=r"expected a model, a folder or the name of a package, got <class .*Llama"):
        install(LlamaForCausalLM)
    (fused_llama / "manifest.json").write_text('{"schema_version": 2}')
    with pytest.raises(ValueError, match="expected a manifest of schema 1, got 2"):
        install(fused_llama)
