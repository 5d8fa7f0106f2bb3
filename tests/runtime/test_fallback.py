"""What the kernel does not take is computed as the original computes it, errors included, and is not called fused."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from torch import nn  # noqa: E402
from transformers.loss.loss_utils import ForCausalLMLoss, ForMaskedLMLoss  # noqa: E402

from fusegen.runtime import (  # noqa: E402
    Projection,
    calls,
    causal_lm_loss,
    coverage,
    cross_entropy_loss,
    install,
    losses,
    masked_lm_loss,
)

pytestmark = pytest.mark.usefixtures("clean_runtime")

BATCH, LENGTH, HIDDEN, VOCABULARY = 2, 6, 4, 13


def plain(logits, labels, vocab_size, **options):
    return nn.functional.cross_entropy(logits.reshape(-1, vocab_size), labels.view(-1), **options)


ADAPTERS = {
    "causal": (causal_lm_loss, ForCausalLMLoss),
    "masked": (masked_lm_loss, ForMaskedLMLoss),
    "plain": (lambda hidden, head, labels, vocab_size, **more: cross_entropy_loss(
        hidden, head, labels, vocab_size=vocab_size, **more), plain),
}  # fmt: skip


class Model(nn.Module):
    """Whose calls are counted."""


class Marked(torch.Tensor):
    """A subclass of somebody's."""


@pytest.fixture
def head():
    torch.manual_seed(0)
    return nn.Linear(HIDDEN, VOCABULARY)


@pytest.fixture
def hidden():
    torch.manual_seed(1)
    return torch.randn(BATCH, LENGTH, HIDDEN, requires_grad=True)


def some_labels():
    labels = torch.arange(BATCH * LENGTH).view(BATCH, LENGTH) % VOCABULARY
    labels[0, 1:3] = -100
    return labels


def ended(compute, *leaves) -> Any:
    """The loss with the gradients of what requires one, or the error."""
    try:
        loss = compute()
        wanted = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
        return loss.detach(), torch.autograd.grad(loss.sum(), wanted, allow_unused=True)
    except Exception as error:
        return error


def assert_as_stock(ours, stock, *leaves, code: str | None) -> None:
    calls.reset_coverage()
    calls.expect(Model)
    found, right = ended(ours, *leaves), ended(stock, *leaves)
    if isinstance(right, Exception):
        assert type(found) is type(right), (found, right)
    else:
        assert not isinstance(found, Exception), found
        assert found[0].dtype == right[0].dtype
        torch.testing.assert_close(found, right, equal_nan=True)
    counts = list(coverage().values())
    # What cannot even be shifted is an error before there is a loss to count.
    assert counts == [{code or "fused": 1}] or (isinstance(right, Exception) and not counts)


def chain(logits, vocab_bias=None, scale=None, divisor=None, softcap=None, valid_vocab=None, logits_dtype=None):
    logits = logits if logits_dtype is None else logits.to(logits_dtype)
    logits = logits if vocab_bias is None else logits + vocab_bias
    logits = logits if scale is None else logits * scale
    logits = logits if divisor is None else logits / divisor
    logits = logits if softcap is None else torch.tanh(logits / softcap) * softcap
    return logits if valid_vocab is None else logits[..., :valid_vocab]


def learned(*shape):
    return nn.Parameter(torch.linspace(0.5, 2, math.prod(shape)).view(shape))


NOT_TAKEN = {
    "a learned cap": {"softcap": learned()},
    "a cap in a buffer": {"softcap": torch.tensor([4.0])},
    "a cap that reached 0": {"softcap": 0.0},
    "a cap of 0 in integers": {"softcap": 0},
    "a cap that float32 rounds to 0": {"softcap": 1e-60},
    "an infinite cap": {"softcap": math.inf},
    "a cap that is no number": {"softcap": math.nan},
    "a cap for each row": {"softcap": learned(VOCABULARY)},
    "a cap that is a bool": {"softcap": True},
    "a scale for each row": {"scale": learned(VOCABULARY)},
    "a scale for each position": {"scale": learned(LENGTH, 1)},
    "a scale that is a bool": {"scale": True},
    "an infinite scale": {"scale": math.inf},
    "a scale that float32 does not hold": {"scale": 1e60},
    "a scale in a tensor of bools": {"scale": torch.tensor(True)},
    "a scale of a subclass": {"scale": torch.tensor(2.0).as_subclass(Marked)},
    "a scale that is no number at all": {"scale": "2"},
    "a complex scale": {"scale": 1j},
    "a divisor that reached 0": {"divisor": 0.0},
    "a divisor of 0 in integers": {"divisor": 0},
    "a divisor for each row": {"divisor": learned(VOCABULARY)},
    "a bias for each position": {"vocab_bias": learned(LENGTH, VOCABULARY)},
    "a bias of one number": {"vocab_bias": learned()},
    "a bias of more dimensions": {"vocab_bias": learned(1, 1, VOCABULARY)},
    "a bias in integers": {"vocab_bias": torch.arange(VOCABULARY)},
    "a bias of another length": {"vocab_bias": learned(VOCABULARY - 1)},
    "a width beyond the vocabulary": {"valid_vocab": VOCABULARY + 4},
    "a width from the end": {"valid_vocab": -3},
    "a width in a tensor": {"valid_vocab": torch.tensor(10)},
    "a dtype without fractions": {"logits_dtype": torch.int32},
}
TAKEN = {
    "a learned scale": {"scale": learned()},
    "a learned divisor of one element": {"divisor": learned(1)},
    "a scale of 0": {"scale": 0.0},
    "a scale in integers": {"scale": 3},
    "a negative cap": {"softcap": -5.0},
    "a learned bias in a row": {"vocab_bias": learned(1, VOCABULARY)},
    "a narrower width": {"valid_vocab": VOCABULARY - 1},
}


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("name", [*NOT_TAKEN, *TAKEN])
def test_operands(head, hidden, kind, name):
    ours, stock = ADAPTERS[kind]
    transforms = NOT_TAKEN.get(name) or TAKEN[name]
    width = transforms.get("valid_vocab")
    columns = torch.empty(VOCABULARY)[: None if width is None else width].numel()
    labels = torch.where(some_labels() < 0, -100, some_labels() % columns)
    assert_as_stock(
        lambda: ours(hidden, head, labels, columns, **transforms),
        lambda: stock(chain(head(hidden), **transforms), labels, columns),
        hidden, *head.parameters(), *transforms.values(),
        code="FG523" if name in NOT_TAKEN else None,
    )  # fmt: skip


def test_a_width_of_other_logits(head, hidden):
    """The views of the original make more rows of the logits; labels for each of them are right."""
    head = nn.Linear(HIDDEN, 12)
    labels = torch.arange(BATCH * LENGTH * 2).view(BATCH, -1) % 6
    for labelled, code in ((labels, "FG523"), (labels[:, 2:].contiguous(), "FG523")):
        assert_as_stock(
            lambda labelled=labelled: masked_lm_loss(hidden, head, labelled, 6),
            lambda labelled=labelled: ForMaskedLMLoss(head(hidden), labelled, 6),
            hidden, *head.parameters(), code=code,
        )  # fmt: skip


LABELS = {
    "uint8": lambda labels: labels.clamp(min=0).to(torch.uint8),
    "int8": lambda labels: labels.to(torch.int8),
    "int16": lambda labels: labels.to(torch.int16),
    "int32": lambda labels: labels.to(torch.int32),
    "bool": lambda labels: labels > 3,
    "float32": lambda labels: labels.float(),
    "complex64": lambda labels: labels.to(torch.complex64),
    "of a subclass": lambda labels: labels.as_subclass(Marked),
    "too few": lambda labels: labels[:, 2:].contiguous(),
    "too many": lambda labels: torch.cat([labels, labels]),
    "elsewhere": lambda labels: labels.to("meta"),
}


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("name", LABELS)
def test_labels(head, hidden, kind, name):
    ours, stock = ADAPTERS[kind]
    labels = LABELS[name](some_labels())
    if kind == "plain" and name == "elsewhere":
        pytest.skip("the fused call stands for originals that move their labels, too")
    assert_as_stock(
        lambda: ours(hidden, head, labels, VOCABULARY),
        lambda: stock(head(hidden), labels, VOCABULARY),
        hidden, *head.parameters(), code="FG524",
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(BATCH * LENGTH, VOCABULARY), (BATCH, LENGTH, VOCABULARY)])
def test_probabilities_as_labels(head, hidden, shape):
    labels = torch.randn(shape).softmax(-1)
    assert_as_stock(
        lambda: cross_entropy_loss(hidden, head, labels, label_smoothing=0.1),
        lambda: nn.functional.cross_entropy(
            head(hidden).flatten(0, 1), labels.reshape(-1, VOCABULARY), label_smoothing=0.1
        ),
        hidden, *head.parameters(), code="FG524",
    )  # fmt: skip


HIDDEN_STATES = {
    "of a subclass": lambda hidden: hidden.as_subclass(Marked),
    "of another width": lambda hidden: hidden[..., 1:],
    "of another dtype": lambda hidden: hidden.double(),
    "in integers": lambda hidden: hidden.long(),
    "without a row": lambda hidden: hidden[..., 0].sum(),
    "sparse": lambda hidden: hidden.detach().flatten(0, 1).to_sparse(),
    "on another device": lambda hidden: hidden.to("meta"),
}


@pytest.mark.parametrize("name", HIDDEN_STATES)
def test_hidden_states(head, hidden, name):
    made = HIDDEN_STATES[name](hidden)
    assert_as_stock(
        lambda: masked_lm_loss(made, head, some_labels(), VOCABULARY),
        lambda: ForMaskedLMLoss(head(made), some_labels(), VOCABULARY),
        hidden, *head.parameters(), code="FG525",
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes_that_the_kernel_takes(head, hidden, dtype):
    head, hidden = head.to(dtype), hidden.detach().to(dtype).requires_grad_()
    calls.expect(Model)
    loss = masked_lm_loss(hidden, head, some_labels(), VOCABULARY)
    right = ForMaskedLMLoss(head(hidden), some_labels(), VOCABULARY)
    torch.testing.assert_close(loss, right, rtol=2e-3, atol=2e-3)
    assert list(coverage().values()) == [{"fused": 1}]


def test_a_weight_that_was_never_asked_about(hidden):
    weight = nn.Parameter(torch.randn(VOCABULARY, HIDDEN)).detach().as_subclass(Marked).requires_grad_()
    assert_as_stock(
        lambda: masked_lm_loss(hidden, Projection(weight), some_labels(), VOCABULARY),
        lambda: ForMaskedLMLoss(nn.functional.linear(hidden, weight), some_labels(), VOCABULARY),
        hidden, code="FG523",
    )  # fmt: skip


@pytest.mark.parametrize("options", [{"label_smoothing": 2.0}, {"reduction": "most"}, {"ignore_index": 1.5}])
def test_options_that_torch_refuses(head, hidden, options):
    assert_as_stock(
        lambda: cross_entropy_loss(hidden, head, some_labels(), **options),
        lambda: plain(head(hidden), some_labels(), VOCABULARY, **options),
        code="FG523",
    )


NUMBERS_OF_ITEMS = [
    7, 7.5, 0, True, math.inf, -3,
    torch.tensor(7), torch.tensor([7]), torch.tensor([[7]]), torch.tensor(7, dtype=torch.int32), torch.tensor(True),
    torch.tensor([True]), torch.tensor(7.0), torch.tensor(7.0, dtype=torch.float64),
    torch.tensor([7.0], dtype=torch.float64), torch.tensor([7.0], dtype=torch.float16),
    torch.tensor([7.0], dtype=torch.bfloat16), torch.tensor(7.0, dtype=torch.float16), torch.tensor(0),
    torch.tensor([3.0, 4.0]), torch.tensor(7.0, requires_grad=True), torch.tensor(2j),
    torch.tensor(7.0).as_subclass(Marked), "7", [7],
]  # fmt: skip


@pytest.mark.parametrize("kind", ["causal", "masked"])
@pytest.mark.parametrize("items", NUMBERS_OF_ITEMS, ids=str)
def test_numbers_of_items(head, hidden, kind, items):
    """The loss has the dtype, the shape and the gradients that the original's division gives."""
    ours, stock = ADAPTERS[kind]
    assert_as_stock(
        lambda: ours(hidden, head, some_labels(), VOCABULARY, num_items_in_batch=items),
        lambda: stock(head(hidden), some_labels(), VOCABULARY, num_items_in_batch=items),
        *(() if str(items) in ("0", "tensor(0)") else (hidden, *head.parameters(), items)), code=None,
    )  # fmt: skip


def test_what_fails_inside_is_not_called_fused(head, hidden, monkeypatch, caplog):
    def out_of_memory(*args, **kwargs):
        raise torch.OutOfMemoryError("no room\nfor more")

    monkeypatch.setattr(losses, "linear_cross_entropy", out_of_memory)
    calls.expect(Model)
    with pytest.raises(torch.OutOfMemoryError):
        masked_lm_loss(hidden, head, some_labels(), VOCABULARY)
    assert list(coverage().values()) == [{"FG527": 1}]
    assert "FG527 the fused loss has raised an error [OutOfMemoryError: no room]" in caplog.text


def test_a_label_outside_of_the_vocabulary_is_an_error_of_its_own(head, hidden):
    labels = some_labels().masked_fill(some_labels() == 4, VOCABULARY)
    assert_as_stock(
        lambda: masked_lm_loss(hidden, head, labels, VOCABULARY),
        lambda: ForMaskedLMLoss(head(hidden), labels, VOCABULARY),
        code="FG527",
    )


def test_a_loss_of_its_own_counts_for_nobody(head, hidden):
    masked_lm_loss(hidden, head, some_labels(), VOCABULARY)
    masked_lm_loss(hidden, head, some_labels(), VOCABULARY, softcap=0.0)
    assert coverage() == {}


def test_a_compiler_takes_what_the_kernel_does_not(head, hidden):
    cap = learned()
    compiled = torch.compile(masked_lm_loss, fullgraph=True, backend="aot_eager")
    assert_as_stock(
        lambda: compiled(hidden, head, some_labels(), VOCABULARY, softcap=cap),
        lambda: ForMaskedLMLoss(chain(head(hidden), softcap=cap), some_labels(), VOCABULARY),
        hidden, cap, code="FG523",
    )  # fmt: skip


def test_a_model_whose_labels_are_of_another_dtype(tiny_llama, caplog):
    model, batch = tiny_llama
    install()
    for dtype in (torch.int32, torch.float32):
        with pytest.raises(RuntimeError, match="Long"):
            model(batch["input_ids"], labels=batch["labels"].to(dtype))
    assert list(coverage().values()) == [{"FG524": 2}]
    assert "[labels: torch.Tensor of the shape (14,), torch.int32 on cpu]" in caplog.text
    assert "[labels: torch.Tensor of the shape (2, 7), torch.float32 on cpu]" in caplog.text


def test_hidden_states_that_are_distributed(tiny_llama, mesh):
    """Under implicit replication a plain head multiplies them, and so it does here."""
    from torch.distributed.tensor import DTensor, Replicate
    from torch.distributed.tensor.experimental import implicit_replication

    model, batch = tiny_llama
    model.model.register_forward_hook(
        lambda module, args, output: output.__class__(
            last_hidden_state=DTensor.from_local(output.last_hidden_state, mesh, [Replicate()])
        )
    )
    results = []
    for patched in (False, True):
        if patched:
            install()
        with implicit_replication():
            model.zero_grad()
            loss = model(**batch).loss
            loss.backward()
        results.append((loss.full_tensor().detach(), model.model.embed_tokens.weight.grad.clone()))
    torch.testing.assert_close(*results)
    assert list(coverage().values()) == [{"FG525": 1}]
