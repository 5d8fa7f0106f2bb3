"""The loss functions of transformers are fused while they are written as they are known, and run as they are else."""

from __future__ import annotations

import importlib.util
import py_compile
import sys
from pathlib import Path
from types import FunctionType

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from transformers import modeling_utils  # noqa: E402
from transformers.loss import loss_utils  # noqa: E402

from fusegen.runtime import InstallError, audit, coverage, install, stock_losses  # noqa: E402

pytestmark = pytest.mark.usefixtures("clean_runtime")

NAMES = ("fixed_cross_entropy", "ForCausalLMLoss", "ForMaskedLMLoss")
SHARPENED = ("# Shift so that tokens < n predict n", "logits = 100 * logits")


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """Loads the file of the losses with a part replaced, as transformers would have: `edited(old, new)`."""

    def load(*replaced: str, compiled: bool = False):
        text = Path(loss_utils.__file__).read_text(encoding="utf-8")
        assert not replaced or replaced[0] in text
        file = tmp_path / "loss_utils.py"
        file.write_text(text.replace(*replaced) if replaced else text, encoding="utf-8")
        if compiled:
            file = Path(py_compile.compile(str(file), str(file.with_suffix(".pyc"))))
        spec = importlib.util.spec_from_file_location(stock_losses.MODULE, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, stock_losses.MODULE, module)
        monkeypatch.setattr(modeling_utils, "LOSS_MAPPING", module.LOSS_MAPPING)
        return module

    return load


def known(module):
    return [name for name in NAMES if stock_losses.is_known(name, getattr(module, name))]


def test_those_of_the_installed_release_are_known():
    assert known(loss_utils) == [*NAMES]
    assert stock_losses.unknown_losses() == []


@pytest.mark.parametrize(
    "replaced",
    [
        (),
        ("# Flatten the tokens", "# One row for each token"),
        ("    logits = logits.float()", "    logits = (\n        logits.float()\n    )"),
        ("vocab_size: int", 'vocab_size: "int | None"'),
        (") -> torch.Tensor:", ") -> torch.Tensor:\n    'The loss.'"),
        ("LOSS_MAPPING = {", "SOMETHING_ELSE = 1\nLOSS_MAPPING = {"),
    ],
)
def test_what_computes_nothing_does_not_count(edited, replaced):
    assert known(edited(*replaced)) == [*NAMES]


@pytest.mark.parametrize(
    ("replaced", "unknown"),
    [
        (SHARPENED, {"ForCausalLMLoss"}),
        (("ignore_index: int = -100", "ignore_index: int = 0"), {*NAMES}),
        (("loss = loss / num_items_in_batch", "loss = loss / (num_items_in_batch + 1)"), {"fixed_cross_entropy"}),
        (("def ForMaskedLMLoss(", "@torch.no_grad()\ndef ForMaskedLMLoss("), {"ForMaskedLMLoss"}),
        (
            (
                "LOSS_MAPPING = {",
                "def ForCausalLMLoss(logits, *args, **kwargs):\n    return logits\n\nLOSS_MAPPING = {",
            ),
            {"ForCausalLMLoss"},
        ),
    ],
)
def test_everything_else_does(edited, replaced, unknown):
    assert {*NAMES} - {*known(edited(*replaced))} == unknown


@pytest.mark.parametrize("name", NAMES)
def test_other_defaults_or_another_torch_do_not_stand_in_the_text(name):
    stock = getattr(loss_utils, name)
    same = FunctionType(stock.__code__, vars(loss_utils), name, stock.__defaults__)
    assert stock_losses.is_known(name, same)
    assert not stock_losses.is_known(name, FunctionType(stock.__code__, vars(loss_utils), name, (None, 0)))
    other = {**vars(loss_utils), "nn": loss_utils}
    assert not stock_losses.is_known(name, FunctionType(stock.__code__, other, name, stock.__defaults__))


def test_a_loss_whose_text_cannot_be_read_is_not_known(edited):
    assert known(edited(compiled=True)) == []


def test_a_loss_that_its_file_no_longer_shows_is_not_known(edited):
    module = edited(*SHARPENED)
    Path(module.__file__).write_text(Path(loss_utils.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    assert "ForCausalLMLoss" not in known(module)


@pytest.mark.parametrize("content", [b"def (", b"\xff\xfe", b"\0", None])
def test_a_file_that_is_damaged_after_its_import_makes_nothing_known(edited, content):
    module = edited()
    file = Path(module.__file__)
    file.write_bytes(content) if content else file.unlink()
    assert known(module) == []


def rewritten_file(edited, monkeypatch):
    edited(*SHARPENED)


def rewritten_in_the_namespace(edited, monkeypatch):
    made = {}
    exec("def ForCausalLMLoss(logits, labels, *args, **kwargs): return 42 + 0 * logits.sum()", vars(loss_utils), made)
    monkeypatch.setattr(loss_utils, "ForCausalLMLoss", made["ForCausalLMLoss"])
    monkeypatch.setitem(loss_utils.LOSS_MAPPING, "ForCausalLM", made["ForCausalLMLoss"])


def rewritten_in_place(edited, monkeypatch):
    theirs = lambda source, *args, **kwargs: source.mean()  # noqa: E731
    monkeypatch.setattr(loss_utils.fixed_cross_entropy, "__code__", theirs.__code__)


def another_of_the_file(edited, monkeypatch):
    monkeypatch.setattr(loss_utils, "ForCausalLMLoss", loss_utils.ForMaskedLMLoss)
    monkeypatch.setitem(loss_utils.LOSS_MAPPING, "ForCausalLM", loss_utils.ForMaskedLMLoss)


@pytest.mark.parametrize(
    "rewrite", [another_of_the_file, rewritten_file, rewritten_in_the_namespace, rewritten_in_place]
)
def test_another_body_runs_as_it_is(tiny_llama, fused_llama, edited, monkeypatch, caplog, rewrite):
    model, batch = tiny_llama
    install(fused_llama)
    stock = model(**batch)
    assert stock.logits is None
    rewrite(edited, monkeypatch)
    again = model(**batch)
    assert again.logits is not None
    theirs = type(model)(model.config).loss_function(again.logits, batch["labels"], vocab_size=50)
    torch.testing.assert_close(again.loss, theirs)
    assert abs(again.loss - stock.loss) > 1e-3
    assert list(coverage().values()) == [{"fused": 1, "FG521": 1}]
    assert "FG521 the stock loss of the installed transformers is written otherwise" in caplog.text


def test_the_record_and_strict_name_it(tiny_llama, edited):
    edited(*SHARPENED)
    assert [(each["name"], each["code"]) for each in audit()["refused"]] == [
        (f"{stock_losses.MODULE}.ForCausalLMLoss", "FG521")
    ]
    for target in (None, tiny_llama[0]):
        with pytest.raises(InstallError, match=r"loss_utils\.ForCausalLMLoss: FG521"):
            install(target, strict=True)
    assert "forward" not in vars(tiny_llama[0])
    assert audit()["tree"] is None
