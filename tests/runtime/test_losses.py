"""The loss adapters against the loss functions that they stand for, on logits of a real head."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

from torch import nn  # noqa: E402
from transformers.loss.loss_utils import ForCausalLMLoss, ForMaskedLMLoss  # noqa: E402

from fusegen.runtime import causal_lm_loss, cross_entropy_loss, masked_lm_loss  # noqa: E402

BATCH, LENGTH, HIDDEN, VOCABULARY = 2, 5, 4, 13
STOCK = {"causal": (causal_lm_loss, ForCausalLMLoss), "masked": (masked_lm_loss, ForMaskedLMLoss)}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def head_and_hidden(bias=False, dtype=torch.float32):
    head = nn.Linear(HIDDEN, VOCABULARY, bias=bias, dtype=dtype)
    return head, torch.randn(BATCH, LENGTH, HIDDEN, dtype=dtype, requires_grad=True)


def some_labels(ignore_index=-100):
    labels = torch.randint(0, VOCABULARY, (BATCH, LENGTH))
    labels[0, 1:3] = ignore_index
    return labels


def assert_same(head, hidden, loss, expected):
    leaves = (hidden, *head.parameters())
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves))


@pytest.mark.parametrize("kind", STOCK)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"num_items_in_batch": 7},
        {"num_items_in_batch": torch.tensor(7)},
        {"num_items_in_batch": torch.tensor([7])},
        {"ignore_index": 3},
        {"shift_labels": torch.arange(BATCH * LENGTH).view(BATCH, LENGTH)},
        {"shift_labels": None, "num_items_in_batch": 4},
        {"label_smoothing": 0.1, "unknown": "ignored by the original"},
    ],
)
def test_equals_the_stock_loss(kind, bias, arguments):
    ours, stock = STOCK[kind]
    head, hidden = head_and_hidden(bias)
    labels = some_labels(arguments.get("ignore_index", -100))
    expected = stock(head(hidden), labels, VOCABULARY, **arguments)
    assert_same(head, hidden, ours(hidden, head, labels, VOCABULARY, **arguments), expected)


@pytest.mark.parametrize("kind", STOCK)
def test_transforms_are_those_of_a_forward(kind):
    ours, stock = STOCK[kind]
    head, hidden = head_and_hidden()
    vocab_bias = torch.randn(1, VOCABULARY)
    labels = some_labels() % 10
    logits = (head(hidden) + vocab_bias) * 0.5 / 2
    logits = torch.tanh(logits / 3.0) * 3.0
    expected = stock(logits[..., :10], labels, vocab_size=10)
    transforms = {"vocab_bias": vocab_bias, "scale": 0.5, "divisor": 2, "softcap": 3.0, "valid_vocab": 10}
    assert_same(head, hidden, ours(hidden, head, labels, vocab_size=10, **transforms), expected)


def test_a_learned_scale_gets_its_gradient():
    head, hidden = head_and_hidden()
    scale, labels = nn.Parameter(torch.tensor(0.7)), some_labels()
    expected = torch.autograd.grad(ForCausalLMLoss(head(hidden) * scale, labels, VOCABULARY), scale)
    loss = causal_lm_loss(hidden, head, labels, VOCABULARY, scale=scale)
    torch.testing.assert_close(torch.autograd.grad(loss, scale), expected)


def test_positions_chosen_by_a_mask():
    """`logits_to_keep` as a mask leaves two-dimensional hidden states; the caller brings `shift_labels`."""
    head, hidden = head_and_hidden()
    mask = torch.rand(BATCH, LENGTH) < 0.5
    labels, shift_labels = some_labels(), some_labels()[mask]
    expected = ForCausalLMLoss(head(hidden[mask]), labels, VOCABULARY, shift_labels=shift_labels)
    loss = causal_lm_loss(hidden[mask], head, labels, VOCABULARY, shift_labels=shift_labels)
    assert_same(head, hidden, loss, expected)


def test_rows_chosen_by_masks_are_one_graph(monkeypatch):
    """Two masks, as for audio, whose numbers of rows only the device knows."""
    monkeypatch.setattr(torch._dynamo.config, "capture_dynamic_output_shape_ops", True)
    head, hidden, labels = nn.Linear(16, 50), torch.randn(4, 9, 16), torch.randint(50, (4, 9))
    mask = torch.rand(4, 9) > 0.4

    @torch.compile(fullgraph=True, backend="aot_eager")
    def chosen(of_rows, of_labels):
        return cross_entropy_loss(hidden[of_rows], head, labels[of_labels], vocab_size=50)

    expected = nn.functional.cross_entropy(head(hidden[mask]), labels[mask])
    torch.testing.assert_close(chosen(mask, mask.clone()), expected)
    with pytest.raises(RuntimeError):
        chosen(mask, torch.ones_like(mask))


@pytest.mark.parametrize("kind", STOCK)
def test_all_ignored_is_nan_with_zero_gradients(kind):
    head, hidden = head_and_hidden()
    loss = STOCK[kind][0](hidden, head, torch.full((BATCH, LENGTH), -100), VOCABULARY)
    loss.backward()
    assert loss.isnan()
    assert not hidden.grad.any()
    assert not head.weight.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", STOCK)
def test_stock_losses_are_float32_for_any_weights(kind, dtype):
    ours, stock = STOCK[kind]
    head, hidden = head_and_hidden(dtype=dtype)
    labels = some_labels()
    loss, expected = ours(hidden, head, labels, VOCABULARY), stock(head(hidden), labels, VOCABULARY)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", STOCK)
@pytest.mark.parametrize(("vocab_size", "cut"), [(VOCABULARY + 1, 0), (2 * VOCABULARY, 0), (VOCABULARY, 1)])
def test_raises_what_the_original_raises(kind, vocab_size, cut):
    ours, stock = STOCK[kind]
    head, hidden = head_and_hidden()
    labels = some_labels()[:, cut:].contiguous()
    with pytest.raises((RuntimeError, ValueError)) as original:
        stock(head(hidden), labels, vocab_size)
    with pytest.raises(original.type):
        ours(hidden, head, labels, vocab_size)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"ignore_index": 0},
        {"reduction": "sum"},
        {"reduction": "none"},
        {"label_smoothing": 0.1},
        {"label_smoothing": 0.1, "reduction": "sum"},
    ],
)
def test_equals_cross_entropy_loss(arguments):
    head, hidden = head_and_hidden(bias=True)
    labels = some_labels(arguments.get("ignore_index", -100))
    expected = nn.CrossEntropyLoss(**arguments)(head(hidden).view(-1, VOCABULARY), labels.view(-1))
    loss = cross_entropy_loss(hidden, head, labels, vocab_size=VOCABULARY, **arguments)
    assert loss.shape == expected.shape
    assert_same(head, hidden, loss.sum(), expected.sum())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("transforms", [{}, {"softcap": 5.0}, {"vocab_bias": torch.zeros(1, VOCABULARY)}])
def test_cross_entropy_loss_has_the_dtype_of_the_original(dtype, autocast, transforms):
    head, hidden = head_and_hidden(dtype=dtype)
    labels = some_labels()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = head(hidden)
        if "softcap" in transforms:
            logits = torch.tanh(logits / 5.0) * 5.0
        if "vocab_bias" in transforms:
            logits = logits + transforms["vocab_bias"]
        expected = nn.CrossEntropyLoss()(logits.view(-1, VOCABULARY), labels.view(-1))
        upcast = cross_entropy_loss(hidden, head, labels, loss_dtype=torch.float32, **transforms)
        loss = cross_entropy_loss(hidden, head, labels, **transforms)
    assert loss.dtype == expected.dtype
    assert upcast.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=2e-2, atol=2e-2)


def test_cross_entropy_loss_checks_the_width():
    head, hidden = head_and_hidden()
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        cross_entropy_loss(hidden, head, some_labels(), vocab_size=VOCABULARY - 1)
    with pytest.raises(ValueError, match="batch_size"):
        cross_entropy_loss(hidden, head, some_labels()[:, 1:])
