"""What kept a loss from being fused is named where it is said: in the log once, and in `audit()`."""

from __future__ import annotations

import logging
import threading
from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from torch import nn  # noqa: E402
from torch.utils import checkpoint as checkpoints  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from fusegen.contract.reasons import REASONS  # noqa: E402
from fusegen.runtime import audit, coverage, fused, fusible, install, reasons, uninstall  # noqa: E402

pytestmark = pytest.mark.usefixtures("clean_runtime")

HERE = f"{__file__}:"


class TwiceLinear(nn.Linear):
    """Another head."""

    def forward(self, hidden):
        return super().forward(hidden) * 2


def log_logits(module, args, output):
    """A hook."""


class Tracker:
    """Somebody's watcher, of which nothing is known."""

    def after(self, how, module, args, output):
        """A hook that is a method, with an argument given."""


def focal_loss(logits, labels, vocab_size, **kwargs):
    return logits.sum()


def gathered_linear(hidden, weight, bias=None):
    return hidden @ weight.T


def another_head(model, monkeypatch):
    model.lm_head = TwiceLinear(16, 50, bias=False)


def hook(model, monkeypatch):
    model.lm_head.register_forward_hook(log_logits)


def hook_of_an_object(model, monkeypatch):
    model.lm_head.register_forward_hook(partial(Tracker().after, "often"))


def own_forward(model, monkeypatch):
    model.lm_head.forward = partial(gathered_linear, weight=model.lm_head.weight)


def replaced_linear(model, monkeypatch):
    monkeypatch.setattr(nn.functional, "linear", gathered_linear)


def half_a_head(model, monkeypatch):
    model.lm_head.weight = nn.Parameter(torch.empty(0))


def own_loss(model, monkeypatch):
    model.loss_function = focal_loss


def replaced_cross_entropy(model, monkeypatch):
    monkeypatch.setattr(nn.functional, "cross_entropy", focal_loss)


def evaluating(model, monkeypatch):
    model.eval()


NAMED = {
    another_head: ("FG512", f"head: {__name__}.TwiceLinear"),
    hook: ("FG513", f"hook of head: {__name__}.log_logits ({HERE}{log_logits.__code__.co_firstlineno})"),
    hook_of_an_object: ("FG513", f"{__name__}.Tracker.after ({HERE}{Tracker.after.__code__.co_firstlineno})"),
    own_forward: ("FG513", f"head.forward: {__name__}.gathered_linear ({HERE}"),
    replaced_linear: ("FG513", f"torch.nn.functional.linear: {__name__}.gathered_linear ({HERE}"),
    half_a_head: (
        "FG514",
        "head.weight: torch.nn.parameter.Parameter of the shape (0,), torch.float32 on cpu, learned",
    ),
    own_loss: ("FG515", f"loss_function: {__name__}.focal_loss ({HERE}"),
    replaced_cross_entropy: ("FG522", f"torch.nn.functional.cross_entropy: {__name__}.focal_loss ({HERE}"),
    evaluating: ("FG511", "fuse='training'"),
}


def ask(model, **kwargs):
    labels = torch.zeros(1, dtype=torch.int64)
    return fusible(model, model.lm_head, labels, **{"loss": "ForCausalLMLoss"} | kwargs)


def unfused():
    (calls,) = audit()["calls"].values()
    return calls["unfused"]


@pytest.mark.parametrize("change", NAMED, ids=lambda change: change.__name__)
def test_what_was_found_is_named(tiny_llama, monkeypatch, caplog, change):
    model, _ = tiny_llama
    change(model, monkeypatch)
    code, name = NAMED[change]
    for _ in range(3):
        assert not ask(model)
    (said,) = caplog.messages
    assert f"{code} {REASONS[code].summary} [" in said
    assert name in said
    assert caplog.records[0].levelno == logging.WARNING
    ((found, count, named),) = [(each["code"], each["count"], each["found"]) for each in unfused()]
    assert (found, count) == (code, 3)
    assert len(named) == 1
    assert name in named[0]


def test_what_has_no_name_is_named_by_its_class(tiny_llama):
    model, _ = tiny_llama
    made = {}
    exec("def nameless(*args): pass", {"__builtins__": {}}, made)
    del made["nameless"].__globals__["__builtins__"]
    circle = lambda *args: None  # noqa: E731
    circle.__wrapped__ = circle
    for hook in (made["nameless"], circle):
        model.lm_head.register_forward_hook(hook)
        assert not ask(model)
        model.lm_head._forward_hooks.clear()
    assert unfused()[0]["found"] == ["hook of head: builtins.function"]


def test_a_compiled_call_without_labels(tiny_llama):
    model, batch = tiny_llama
    install()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert compiled(batch["input_ids"]).logits is not None
    assert set(next(iter(coverage().values()))) == {"FG528"}
    torch._dynamo.reset()


def test_the_line_of_a_condition_is_named(tiny_llama):
    model, _ = tiny_llama
    condition = lambda: False  # noqa: E731
    assert not ask(model, where=condition)
    assert unfused()[0]["found"] == [
        f"condition: {__name__}.test_the_line_of_a_condition_is_named.<locals>.<lambda> "
        f"({HERE}{condition.__code__.co_firstlineno})"
    ]


def test_a_part_that_is_passed_over_is_named(tiny_llama):
    model, _ = tiny_llama
    assert not ask(model, through={"model.norm": nn.LayerNorm})
    assert unfused()[0]["found"] == ["model.norm: transformers.models.llama.modeling_llama.LlamaRMSNorm"]


def test_of_many_findings_a_few_are_named(tiny_llama, caplog):
    model, _ = tiny_llama
    for number in range(20):
        model.lm_head.__class__ = type(f"Head{number}", (nn.Linear,), {})
        for _ in range(2):
            ask(model)
    assert len(caplog.messages) == len(unfused()[0]["found"]) == 5
    assert unfused()[0]["count"] == 40


def test_a_training_call_without_labels_is_an_outcome(tiny_llama, caplog):
    """The label smoother of the Trainer takes the labels away, and so do losses of one's own."""
    model, batch = tiny_llama
    install()
    logits = model(batch["input_ids"]).logits
    nn.functional.cross_entropy(logits.flatten(0, 1), batch["input_ids"].flatten(), label_smoothing=0.1).backward()
    assert list(coverage().values()) == [{"FG528": 1}]
    assert "FG528 a training call without labels" in caplog.text
    with torch.no_grad():
        model(batch["input_ids"])
        model.generate(batch["input_ids"], max_new_tokens=2)
    model.eval()(batch["input_ids"])
    assert list(coverage().values()) == [{"FG528": 1}]


def test_every_code_of_the_runtime_is_explained():
    names = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
    assert {"FG523", "FG528"} <= names <= set(REASONS)


# -- when to fuse ------------------------------------------------------------------------------------------------


def test_install_reads_the_environment(tiny_llama, monkeypatch):
    model, batch = tiny_llama
    monkeypatch.setenv("FUSEGEN_FUSE", "never")
    install()
    assert model(**batch).logits is not None
    monkeypatch.setenv("FUSEGEN_FUSE", "always")
    install()
    assert model.eval()(**batch).logits is None
    install(fuse="training")
    install()
    assert model(**batch).logits is not None


def test_a_wrong_value_in_the_environment_patches_nothing(tiny_llama, monkeypatch):
    model, batch = tiny_llama
    monkeypatch.setenv("FUSEGEN_FUSE", "off")
    for target in (None, model):
        with pytest.raises(ValueError, match="FUSEGEN_FUSE: expected one of training, always, never, got 'off'"):
            install(target)
    assert model(**batch).logits is not None
    assert coverage() == {}
    install(fuse="training")
    assert model(**batch).logits is None
    uninstall()


# -- checkpoints -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backward", ["here", "in another thread"])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("fuse", ["never", "always"])
def test_a_checkpoint_computes_again_what_it_computed(tiny_llama, fuse, reentrant, backward):
    model, batch = tiny_llama
    model.train(fuse == "never")  # what the process would do outside of the block is the opposite
    install()
    embeddings = model.model.embed_tokens(batch["input_ids"]).detach().requires_grad_()
    before = checkpoints._CheckpointFrame.__init__, checkpoints.CheckpointFunction.forward

    def step(embeddings):
        output = model(inputs_embeds=embeddings, labels=batch["labels"])
        seen.append(output.logits is None)
        return output.loss * 1

    seen: list[bool] = []
    with fused(fuse=fuse):
        loss = checkpoint(step, embeddings, use_reentrant=reentrant)
    errors = []

    def run():
        try:
            loss.backward()
        except Exception as error:
            errors.append(error)

    if backward == "here":
        run()
    else:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert not errors
    assert len(seen) in (1, 2)  # the second may stop before it comes to the end
    assert set(seen) == {fuse == "always"}
    assert set(next(iter(coverage().values()))) == {"fused" if fuse == "always" else "FG511"}
    assert before == (checkpoints._CheckpointFrame.__init__, checkpoints.CheckpointFunction.forward)
    right = torch.autograd.grad(step(embeddings), embeddings)
    torch.testing.assert_close((embeddings.grad,), right)


def test_checkpoints_in_checkpoints_and_blocks_in_blocks(tiny_llama):
    model, batch = tiny_llama
    install()
    embeddings = model.model.embed_tokens(batch["input_ids"]).detach().requires_grad_()
    seen: list[bool] = []

    def step(embeddings):
        output = model(inputs_embeds=embeddings, labels=batch["labels"])
        seen.append(output.logits is None)
        return output.loss * 1

    def inner(embeddings):
        with fused(fuse="always"), fused(fuse="never"):
            return checkpoint(step, embeddings, use_reentrant=False) * 1

    with fused(fuse="always"):
        loss = checkpoint(inner, embeddings, use_reentrant=False)
    loss.backward()
    assert set(seen) == {False}
    assert embeddings.grad.isfinite().all()
