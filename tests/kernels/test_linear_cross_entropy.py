"""`linear_cross_entropy` against its definition, and the definition against torch's own loss on hand-made logits."""

from __future__ import annotations

import functools

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from fusegen.kernels import backends, linear_cross_entropy, linear_cross_entropy_reference  # noqa: E402
from fusegen.kernels.linear_cross_entropy import chunked  # noqa: E402
from fusegen.kernels.linear_cross_entropy.selection import Selection  # noqa: E402

HIDDEN, VOCABULARY = 4, 11
DOUBLE = {"dtype": torch.float64}


@pytest.fixture(autouse=True)
def _three_rows_a_chunk(monkeypatch):
    monkeypatch.setattr(backends, "CPU_BUDGET", 3 * chunked.COPIES * 4 * VOCABULARY)
    torch.manual_seed(0)


def problem(rows=7, ignored=(2,), dtype=torch.float64):
    """Hidden states and weight, leaves that want a gradient, and labels."""
    hidden = torch.randn(rows, HIDDEN, dtype=dtype, requires_grad=True)
    weight = torch.randn(VOCABULARY, HIDDEN, dtype=dtype, requires_grad=True)
    labels = torch.randint(0, VOCABULARY - 2, (rows,))
    labels[[i for i in ignored if i < rows]] = -100
    return hidden, weight, labels


def parameter(*shape, dtype=torch.float64):
    return (torch.rand(shape, dtype=dtype) + 0.5).requires_grad_()


def loss_and_gradients(function, hidden, weight, labels, **options):
    leaves = [t for t in (hidden, weight, *options.values()) if isinstance(t, torch.Tensor) and t.requires_grad]
    loss = function(hidden, weight, labels, **options)
    return loss, torch.autograd.grad(loss.sum(), leaves)


def assert_same(hidden, weight, labels, **options):
    loss, gradients = loss_and_gradients(linear_cross_entropy, hidden, weight, labels, **options)
    expected, expected_gradients = loss_and_gradients(linear_cross_entropy_reference, hidden, weight, labels, **options)
    torch.testing.assert_close(loss, expected, equal_nan=True)
    torch.testing.assert_close(gradients, expected_gradients, equal_nan=True)
    assert loss.dtype == expected.dtype


OPTIONS = {
    "plain": dict,
    "bias": lambda: {"bias": parameter(VOCABULARY)},
    "vocabulary bias": lambda: {"vocab_bias": parameter(1, VOCABULARY)},
    "scale by a number": lambda: {"scale": 0.3},
    "scale by a parameter": lambda: {"scale": parameter()},
    "divisor": lambda: {"divisor": 8},
    "divisor parameter": lambda: {"divisor": parameter(1)},
    "soft cap": lambda: {"softcap": 2.0},
    "valid vocabulary": lambda: {"valid_vocab": 9},
    "label smoothing": lambda: {"label_smoothing": 0.1},
    "sum": lambda: {"reduction": "sum"},
    "none": lambda: {"reduction": "none"},
    "shift": lambda: {"shift": True},
    "temperature": lambda: {"temperature": 0.7},
    "temperature and soft cap": lambda: {"temperature": 0.7, "softcap": 2.0, "scale": parameter()},
    "class weight": lambda: {"class_weight": torch.rand(VOCABULARY, **DOUBLE)},
    "class weight, smoothing": lambda: {"class_weight": torch.rand(VOCABULARY, **DOUBLE), "label_smoothing": 0.3},
    "class weight, none": lambda: {"class_weight": torch.rand(VOCABULARY, **DOUBLE), "reduction": "none"},
    "token weight": lambda: {"token_weight": torch.rand(7, **DOUBLE)},
    "token weight, parameter": lambda: {"token_weight": parameter(7)},
    "z-loss": lambda: {"z_loss": 0.05},
    "z-loss, none": lambda: {"z_loss": 0.05, "reduction": "none", "label_smoothing": 0.1, "softcap": 2.0},
    "number of items": lambda: {"num_items": 13},
    "number of items, tensor": lambda: {"num_items": torch.tensor(13)},
    "ignored inside the vocabulary": lambda: {"ignore_index": 3},
    "everything": lambda: {
        "bias": parameter(VOCABULARY),
        "vocab_bias": parameter(VOCABULARY),
        "scale": parameter(),
        "divisor": 1.7,
        "softcap": 3.0,
        "valid_vocab": 10,
        "label_smoothing": 0.2,
        "class_weight": torch.rand(VOCABULARY, **DOUBLE),
        "token_weight": torch.rand(7, **DOUBLE),
        "z_loss": 0.02,
        "temperature": 1.3,
        "num_items": 5,
        "shift": True,
    },
}


@pytest.mark.parametrize("option", OPTIONS)
def test_gradients_are_exact(option):
    hidden, weight, labels = problem(ignored=() if "inside" in option else (2,))
    options = OPTIONS[option]() | {"loss_dtype": torch.float64}
    assert_same(hidden, weight, labels, **options)
    leaves = {k: v for k, v in options.items() if isinstance(v, torch.Tensor) and v.requires_grad}
    rest = {k: v for k, v in options.items() if k not in leaves}

    def loss(hidden, weight, *tensors):
        return linear_cross_entropy(hidden, weight, labels, **dict(zip(leaves, tensors, strict=True)), **rest)

    assert torch.autograd.gradcheck(loss, (hidden, weight, *leaves.values()))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_mixture_equals_the_definition(data):
    def choose(*values):
        return data.draw(st.sampled_from(values))

    batch, length = data.draw(st.integers(0, 3)), data.draw(st.integers(1, 8))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    hidden = torch.randn(batch, length, HIDDEN, **DOUBLE, requires_grad=True)
    weight = torch.randn(VOCABULARY, HIDDEN, **DOUBLE, requires_grad=True)
    ignore_index = choose(-100, -1, 0, 5)
    labels = torch.randint(0, 6, (batch, length))
    labels[torch.rand(batch, length) < choose(0.0, 0.5, 1.0)] = ignore_index
    options = {
        "bias": choose(None, parameter(VOCABULARY)),
        "vocab_bias": choose(None, parameter(VOCABULARY)),
        "scale": choose(None, 0.25, parameter()),
        "divisor": choose(None, 4, parameter(1)),
        "softcap": choose(None, 1.5),
        "valid_vocab": choose(None, 6, VOCABULARY),
        "label_smoothing": choose(0.0, 0.1),
        "ignore_index": ignore_index,
        "shift": choose(False, True),
        "temperature": choose(1.0, 0.8),
        "class_weight": choose(None, torch.rand(VOCABULARY, **DOUBLE) + 0.1),
        "token_weight": choose(None, torch.rand(batch, length, **DOUBLE), parameter(batch, length)),
        "z_loss": choose(0.0, 0.01),
        "loss_dtype": choose(None, torch.float64),
    } | choose({"reduction": "mean"}, {"reduction": "sum"}, {"reduction": "none"}, {"num_items": 7})
    assert_same(hidden, weight, labels, **options)


def test_the_definition_is_torchs_loss_on_the_transformed_logits():
    hidden, weight, labels = problem()
    bias, extra = parameter(VOCABULARY), parameter(VOCABULARY)
    logits = 30 * torch.tanh((hidden @ weight.T + bias + extra) * 0.5 / 4 / 30)
    expected = F.cross_entropy(logits[:, :9].float(), labels, label_smoothing=0.1)
    options = {"bias": bias, "vocab_bias": extra, "scale": 0.5, "divisor": 4, "softcap": 30, "valid_vocab": 9}
    loss = linear_cross_entropy_reference(hidden, weight, labels, **options, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_every_number_of_rows(rows, reduction):
    assert_same(*problem(rows, ignored=()), reduction=reduction, loss_dtype=torch.float64)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("reduction", "expected"), [("mean", float("nan")), ("sum", 0.0)])
def test_all_ignored(reduction, expected, label_smoothing):
    hidden, weight, labels = problem(ignored=range(7))
    bias, scale = parameter(VOCABULARY), parameter()
    options = {"bias": bias, "scale": scale, "reduction": reduction, "label_smoothing": label_smoothing}
    loss = linear_cross_entropy(hidden, weight, labels, **options)
    torch.testing.assert_close(loss.detach(), torch.tensor(expected), equal_nan=True)
    loss.backward()
    for leaf in (hidden, weight, bias, scale):
        assert leaf.grad is not None
        assert not leaf.grad.any()


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
@pytest.mark.parametrize("options", [{}, {"reduction": "sum", "outputs": ("logprob",)}, {"reduction": "none"}], ids=str)
def test_what_an_ignored_token_weighs_is_not_looked_at(options, weight):
    hidden, head, labels = problem()
    tokens = torch.rand(7, **DOUBLE)
    tokens[2] = weight
    for function in (linear_cross_entropy, linear_cross_entropy_reference):
        result = function(hidden, head, labels, token_weight=tokens, **options)
        loss = result.loss if "outputs" in options else result
        assert loss.isfinite().all()
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss.sum(), (hidden, head)))


def test_the_result_may_be_added_to_in_place():
    hidden, weight, labels = problem(ignored=())
    for options in ({}, {"reduction": "sum"}, {"reduction": "none"}, {"num_items": 3}):
        loss = linear_cross_entropy(hidden, weight, labels, **options)
        assert not loss._is_view()
        before = loss.detach().clone()
        loss += 0.5 * weight.sum().float()
        loss.sum().backward()
        torch.testing.assert_close(loss.detach(), before + 0.5 * weight.detach().sum().float())


def test_backward_twice_gives_the_gradient_twice():
    hidden, weight, labels = problem()
    loss = linear_cross_entropy(hidden, weight, labels)
    loss.backward(retain_graph=True)
    once = weight.grad.clone(), hidden.grad.clone()
    loss.backward()
    torch.testing.assert_close((weight.grad, hidden.grad), (2 * once[0], 2 * once[1]))


def test_backward_scales_by_what_it_gets():
    hidden, weight, labels = problem()
    loss = linear_cross_entropy(hidden, weight, labels)
    (once,) = torch.autograd.grad(loss, weight, retain_graph=True)
    (scaled,) = torch.autograd.grad(3 * loss, weight, retain_graph=True)
    scaled.add_(1)
    torch.testing.assert_close(torch.autograd.grad(-loss, weight, retain_graph=True)[0], -once)
    torch.testing.assert_close(torch.autograd.grad(loss, weight)[0], once)


OUTPUTS = ("logprob", "logsumexp", "entropy", "top1", "hits")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_outputs_equal_the_definition(data):
    def choose(*values):
        return data.draw(st.sampled_from(values))

    torch.manual_seed(data.draw(st.integers(0, 1000)))
    hidden, weight, labels = problem(data.draw(st.integers(0, 9)), ignored=choose((), (1, 2), range(9)))
    outputs = data.draw(st.lists(st.sampled_from(OUTPUTS), unique=True, min_size=1))
    options = {
        "scale": choose(None, parameter()),
        "bias": choose(None, parameter(VOCABULARY)),
        "softcap": choose(None, 2.0),
        "valid_vocab": choose(None, 9),
        "label_smoothing": choose(0.0, 0.1),
        "class_weight": choose(None, torch.rand(VOCABULARY, **DOUBLE) + 0.1),
        "z_loss": choose(0.0, 0.01),
        "temperature": choose(1.0, 0.8),
        "reduction": choose("mean", "sum", "none"),
        "loss_dtype": torch.float64,
    }
    leaves = [t for t in (hidden, weight, *options.values()) if isinstance(t, torch.Tensor) and t.requires_grad]
    seen = []
    for function in (linear_cross_entropy, linear_cross_entropy_reference):
        found = function(hidden, weight, labels, outputs=outputs, **options)
        total = sum(t.nan_to_num().sum() * (i + 1) for i, t in enumerate(found) if t is not None and t.requires_grad)
        seen.append((found, torch.autograd.grad(total, leaves)))
        assert {name for name in OUTPUTS if getattr(found, name) is not None} == set(outputs)
    torch.testing.assert_close(
        [t for t in seen[0][0] if t is not None], [t for t in seen[1][0] if t is not None], equal_nan=True
    )
    torch.testing.assert_close(seen[0][1], seen[1][1])


@pytest.mark.parametrize("name", ["logprob", "entropy"])
def test_gradients_of_outputs_are_exact(name):
    hidden, weight, labels = problem()
    options = {"softcap": 2.0, "loss_dtype": torch.float64, "outputs": [name], "label_smoothing": 0.1}

    def output(hidden, weight):
        return getattr(linear_cross_entropy(hidden, weight, labels, **options), name)

    assert torch.autograd.gradcheck(output, (hidden, weight))


def test_evaluation_and_frozen_operands_do_no_more_than_asked(monkeypatch):
    hidden, weight, labels = problem()
    asked = []
    fused_rows = chunked.fused_rows

    def spy(*tensors, **options):
        asked.append((bool(options["row_weights"]), options["need"].hidden, options["need"].weight))
        return fused_rows(*tensors, **options)

    backends.register_backend(backends.Backend("spy", spy, lambda device, dtype: True))
    try:
        with torch.no_grad():
            linear_cross_entropy(hidden, weight, labels, outputs=OUTPUTS)
        linear_cross_entropy(hidden.detach(), weight, labels)
        linear_cross_entropy(hidden, weight.detach(), labels)
    finally:
        backends.unregister_backend("spy")
    assert asked == [(False, False, False), (True, False, True), (True, True, False)]


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_few_ignored_rows(reduction):
    hidden, weight, labels = problem(rows=130, ignored=(3, 129))
    chosen = Selection(hidden, labels, -100, VOCABULARY)
    assert chosen.count == 128
    assert torch.equal(chosen.hidden, hidden[labels != -100])
    assert Selection(hidden, labels.clamp(min=0), -100, VOCABULARY).hidden.data_ptr() == hidden.data_ptr()
    options = {"reduction": reduction, "label_smoothing": 0.1, "z_loss": 0.01, "loss_dtype": torch.float64}
    assert_same(hidden, weight, labels, **options)
    found = [
        f(hidden, weight, labels, outputs=OUTPUTS, **options)
        for f in (linear_cross_entropy, linear_cross_entropy_reference)
    ]
    torch.testing.assert_close(found[0], found[1])


def test_large_logits_keep_their_digits():
    hidden = torch.full((4, HIDDEN), 100.0, requires_grad=True)
    weight = torch.randn(VOCABULARY, HIDDEN).add_(10).requires_grad_()
    labels = torch.arange(4)
    (gradient,) = torch.autograd.grad(linear_cross_entropy(hidden, weight, labels), weight)
    (expected,) = torch.autograd.grad(F.cross_entropy(hidden @ weight.T, labels), weight)
    torch.testing.assert_close(gradient, expected)


def test_deterministic():
    hidden, weight, labels = problem(rows=50, dtype=torch.float32)
    torch.use_deterministic_algorithms(True)
    try:
        runs = [
            loss_and_gradients(linear_cross_entropy, hidden, weight, labels, reduction=r) for r in ("mean", "none") * 2
        ]
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(runs[2:], runs[:2], rtol=0, atol=0)


def test_functional_call():
    head = torch.nn.Linear(HIDDEN, VOCABULARY, **DOUBLE)
    hidden, weight, labels = problem()

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = head

        def forward(self, hidden):
            return linear_cross_entropy(hidden, self.head.weight, labels, bias=self.head.bias)

    loss = torch.func.functional_call(Loss(), {"head.weight": weight}, (hidden,))
    expected = linear_cross_entropy(hidden, weight, labels, bias=head.bias)
    torch.testing.assert_close(torch.autograd.grad(loss, weight), torch.autograd.grad(expected, weight))


def test_twice_under_autocast():
    hidden, weight, labels = problem(rows=20, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first = linear_cross_entropy(hidden, weight, labels)
        second = linear_cross_entropy(hidden, weight, labels, reduction="none").sum()
    gradients = torch.autograd.grad(first + second, (hidden, weight))
    expected = F.cross_entropy(hidden @ weight.T, labels) + F.cross_entropy(hidden @ weight.T, labels, reduction="sum")
    assert [g.dtype for g in gradients] == [torch.float32] * 2
    for ours, exact in zip(gradients, torch.autograd.grad(expected, (hidden, weight)), strict=True):
        assert (ours - exact).norm() < 2e-2 * exact.norm()


@pytest.mark.parametrize("frozen", ["weight", "hidden"])
def test_frozen_operands(frozen):
    hidden, weight, labels = problem()
    {"weight": weight, "hidden": hidden}[frozen].requires_grad_(False)
    assert_same(hidden, weight, labels)


def test_without_gradients():
    hidden, weight, labels = problem()
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, labels)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, linear_cross_entropy_reference(hidden, weight, labels).detach())


def test_strided_hidden_states():
    hidden = torch.randn(HIDDEN, 5, 2, **DOUBLE).transpose(0, 2).requires_grad_()
    _, weight, _ = problem()
    assert_same(hidden, weight, torch.randint(0, VOCABULARY, (2, 5)))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_inside_a_checkpointed_block(use_reentrant, reduction):
    hidden, weight, labels = problem()
    loss, expected = loss_and_gradients(linear_cross_entropy, hidden, weight, labels, reduction=reduction)
    block = functools.partial(linear_cross_entropy, reduction=reduction)
    checkpointed = torch.utils.checkpoint.checkpoint(block, hidden, weight, labels, use_reentrant=use_reentrant)
    torch.testing.assert_close(checkpointed, loss)
    (3 * checkpointed).sum().backward()
    torch.testing.assert_close((hidden.grad, weight.grad), tuple(3 * gradient for gradient in expected))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss_dtype", [None, torch.float32])
def test_low_precision_is_as_near_to_float64_as_eager(dtype, loss_dtype):
    hidden, weight, labels = problem(rows=60, dtype=dtype)
    options = {"loss_dtype": loss_dtype, "softcap": 5.0}
    loss, gradients = loss_and_gradients(linear_cross_entropy, hidden, weight, labels, **options)
    logits = 5.0 * torch.tanh(hidden @ weight.T / 5.0)
    eager = F.cross_entropy(logits if loss_dtype is None else logits.float(), labels)
    eager_gradients = torch.autograd.grad(eager, (hidden, weight))
    exact = [t.detach().double().requires_grad_() for t in (hidden, weight)]
    exact_loss, exact_gradients = loss_and_gradients(
        linear_cross_entropy_reference, *exact, labels, softcap=5.0, loss_dtype=None
    )
    assert loss.dtype == eager.dtype
    assert abs(loss.double() - exact_loss) <= 1.5 * abs(eager.double() - exact_loss) + 1e-3
    for ours, eagers, true in zip(gradients, eager_gradients, exact_gradients, strict=True):
        assert ours.dtype == dtype
        assert (ours - true).norm() <= 1.5 * (eagers - true).norm() + 1e-6


MANY = 4096
SCALED = {
    "mean": lambda: ({}, 2.0**16),
    "mean without a scaler": lambda: ({}, 1.0),
    "number of items": lambda: ({"num_items": 2**20}, 2.0**16),
    "sum": lambda: ({"reduction": "sum"}, 1.0),
    "token weights": lambda: ({"token_weight": 1e5 * torch.rand(MANY)}, 2.0**16),
    "large sum of token weights": lambda: ({"token_weight": 1e5 * torch.rand(MANY), "reduction": "sum"}, 2.0**-16),
    "class weights": lambda: ({"class_weight": 1e5 * torch.rand(VOCABULARY), "label_smoothing": 0.1}, 2.0**16),
    "sum of class weights": lambda: ({"class_weight": 1e5 * torch.rand(VOCABULARY), "reduction": "sum"}, 2.0**-16),
    "scale": lambda: ({"scale": 0.001}, 2.0**16),
    "large scale": lambda: ({"scale": torch.tensor(100.0), "softcap": 3.0}, 2.0**8),
    "z-loss": lambda: ({"z_loss": 0.01}, 2.0**12),
}


@pytest.mark.parametrize("option", SCALED)
def test_float16_with_many_rows_and_a_loss_scale(option, monkeypatch):
    """As a `GradScaler` does it: the factor comes after the forward, in which 1 / rows is too small for float16."""
    monkeypatch.setattr(backends, "CPU_BUDGET", 2**20)
    hidden = (torch.randn(MANY, HIDDEN) + 2).half().requires_grad_()
    weight = torch.randn(VOCABULARY, HIDDEN).half().requires_grad_()
    labels = torch.randint(0, VOCABULARY, (MANY,))
    labels[: MANY // 2] = 1
    options, loss_scale = SCALED[option]()
    (linear_cross_entropy(hidden, weight, labels, **options) * loss_scale).backward()
    exact = [t.detach().double().requires_grad_() for t in (hidden, weight)]
    _, expected = loss_and_gradients(
        linear_cross_entropy_reference, *exact, labels, loss_dtype=torch.float64, **options
    )
    for leaf, true in zip((hidden, weight), expected, strict=True):
        assert leaf.grad.dtype == torch.float16
        assert (leaf.grad.double() / loss_scale - true).norm() < 1e-3 * true.norm()


@pytest.mark.parametrize("loss_dtype", [None, torch.float32])
def test_autocast(loss_dtype):
    hidden, weight, labels = problem(rows=20, dtype=torch.float32)
    bias = parameter(VOCABULARY, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, labels, bias=bias, loss_dtype=loss_dtype)
        again = F.linear(hidden, weight, bias)
        expected = F.cross_entropy(again, labels)
    assert loss.dtype == expected.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=2e-3, atol=2e-3)
    gradients = torch.autograd.grad(loss, (hidden, weight, bias))
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, (hidden, weight, bias)), rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_one_token(reduction):
    hidden, weight, _ = problem()
    assert_same(hidden[0], weight, torch.tensor(3), reduction=reduction, loss_dtype=torch.float64)
    loss = linear_cross_entropy(hidden[0], weight, torch.tensor(3), reduction=reduction)
    assert loss.shape == ()
    assert not loss._is_view()


@pytest.mark.parametrize("outputs", [(), OUTPUTS])
def test_meta_tensors_give_shapes(outputs):
    hidden, weight, labels = (t.detach().to("meta") for t in problem())
    hidden.requires_grad_()
    result = linear_cross_entropy(hidden, weight, labels, outputs=outputs)
    loss = result.loss if outputs else result
    assert (loss.device.type, loss.shape, loss.dtype) == ("meta", (), torch.float32)
    loss.backward()
    assert hidden.grad.shape == hidden.shape
