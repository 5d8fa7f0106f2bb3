"""Gradients of gradients, transforms of `torch.func`, and what was changed between a forward and its backward."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")

from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from fusegen.kernels import linear_cross_entropy, linear_cross_entropy_reference, ops  # noqa: E402
from fusegen.kernels.operator import Operator  # noqa: E402

ROWS, HIDDEN, VOCABULARY = 6, 4, 11
LABELS = torch.tensor([1, 2, -100, 4, 0, 3])
TWO_ROWS = 2 * 4 * 8 * VOCABULARY
DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def leaf(*shape, dtype=DOUBLE):
    return (torch.rand(shape, dtype=dtype) + 0.5).requires_grad_()


def operands(dtype=DOUBLE):
    hidden = torch.randn(ROWS, HIDDEN, dtype=dtype, requires_grad=True)
    return hidden, torch.randn(VOCABULARY, HIDDEN, dtype=dtype, requires_grad=True)


OPTIONS = {
    "plain": dict,
    "all": lambda: {
        "bias": leaf(VOCABULARY),
        "scale": leaf(),
        "softcap": 2.0,
        "valid_vocab": 9,
        "label_smoothing": 0.1,
        "z_loss": 0.05,
        "class_weight": torch.rand(VOCABULARY, dtype=DOUBLE),
    },
    "scale of 0": lambda: {"scale": torch.zeros((), dtype=DOUBLE, requires_grad=True), "z_loss": 0.1},
}


@pytest.mark.parametrize("outputs", [(), ("logprob", "entropy")], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("option", OPTIONS)
def test_a_gradient_is_differentiated_by_what_multiplies_the_loss(option, reduction, outputs):
    """And that derivative by the tangents: as often as one likes, as long as no operand is asked for."""
    hidden, weight = operands()
    options = OPTIONS[option]() | {"reduction": reduction, "loss_dtype": DOUBLE, "outputs": outputs}
    leaves = [hidden, weight, *[v for v in options.values() if isinstance(v, Tensor) and v.requires_grad]]

    def derivatives(function, **more):
        result = function(hidden, weight, LABELS, **options, **more)
        parts = [each for each in (result if outputs else [result]) if each is not None and each.requires_grad]
        generator = torch.Generator().manual_seed(1)

        def factors(tensors):
            return [torch.randn(t.shape, generator=generator, dtype=DOUBLE).requires_grad_() for t in tensors]

        weights = factors(parts)
        first = torch.autograd.grad(parts, leaves, weights, create_graph=True)
        tangents = factors(first)
        second = torch.autograd.grad(first, weights, tangents, create_graph=True)
        return *first, *second, *torch.autograd.grad(sum(each.square().sum() for each in second), tangents)

    found = derivatives(linear_cross_entropy, budget=TWO_ROWS)
    torch.testing.assert_close(found, derivatives(linear_cross_entropy_reference))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("retain_graph", [None, False])
def test_a_learned_weight_of_the_loss(dtype, retain_graph):
    """Where gradients are held in another unit, and where nobody can ask for them again."""
    hidden, weight = operands(dtype)

    def by_weight(loss):
        factor = torch.tensor(3.0, requires_grad=True)
        gradients = torch.autograd.grad(factor * loss, (hidden, weight), create_graph=True, retain_graph=retain_graph)
        return torch.autograd.grad(sum(each.float().square().sum() for each in gradients), factor)[0]

    expected = by_weight(F.cross_entropy((hidden.double() @ weight.double().T).float(), LABELS))
    found = by_weight(linear_cross_entropy(hidden, weight, LABELS, budget=200))
    torch.testing.assert_close(found, expected, rtol=1e-2 if dtype != torch.float32 else 1e-5, atol=0)


CHAINS = {
    "linear": lambda x: ops.Linear.apply(x, torch.ones(3, HIDDEN, dtype=DOUBLE), None),
    "bias": ops.Bias(torch.ones(HIDDEN, dtype=DOUBLE)),
    "scale": ops.LogitScale(torch.tensor(3.0, dtype=DOUBLE)),
    "soft cap": ops.SoftCap(1.5),
    "cast": ops.Cast(torch.float32),
    "slice": ops.VocabSlice(3),
    "cross entropy": ops.CrossEntropy(LABELS.clamp(max=3), reduction="none"),
    "legacy path": ops.SoftCap(1.5).call_eagerly,
}


@pytest.mark.parametrize("name", CHAINS)
def test_every_operator_has_the_derivative_of_its_gradient(name):
    """<B(g), v> = <g, J(v)>, with J by finite differences of the forward."""
    chain, x = CHAINS[name], torch.randn(ROWS, HIDDEN, dtype=DOUBLE, requires_grad=True)
    tangent, step = torch.randn_like(x), 1e-6
    found = torch.autograd.functional.jvp(chain, x, tangent)[1]
    with torch.no_grad():
        difference = (chain(x + step * tangent).double() - chain(x - step * tangent).double()) / (2 * step)
    torch.testing.assert_close(found.double(), difference, rtol=1e-5, atol=1e-5 if name != "cast" else 0.5)
    (gradient,) = torch.autograd.grad(chain(x).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative is defined"):
        gradient.sum().backward()


@dataclass(frozen=True, eq=False)
class Opaque(Operator, name="test_opaque"):
    """Its backward is a kernel, of which autograd sees nothing."""

    @staticmethod
    def forward_compute(x: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return (x * 3,), ()

    @staticmethod
    def save_context(ctx, inputs, saved):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return (torch.from_numpy(gradient.detach().numpy() * 3),)


def test_a_backward_that_autograd_cannot_see_into_is_an_error():
    x, factor = torch.randn(4, requires_grad=True), torch.randn(4, requires_grad=True)
    (gradient,) = torch.autograd.grad(Opaque.apply(x), x, factor, create_graph=True)
    torch.testing.assert_close(gradient, factor * 3)
    with pytest.raises(NotImplementedError, match="test_opaque: the derivative of its gradient is not defined"):
        gradient.sum().backward()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_functions_of_functions(reduction):
    hidden, weight = operands()
    options = {"reduction": reduction, "loss_dtype": DOUBLE}
    tangent = torch.randn_like(hidden)
    batch = torch.randn(3, ROWS, HIDDEN, dtype=DOUBLE)
    labels = torch.randint(0, VOCABULARY, (3, ROWS))

    def values(function):
        def loss(x):
            return function(x, weight, LABELS, **options)

        def total(x):
            return loss(x).sum()

        def by_batches():
            out, generator = loss(hidden), torch.Generator().manual_seed(1)
            cotangents = torch.randn(3, *out.shape, generator=generator, dtype=DOUBLE)
            return torch.autograd.grad(out, (hidden, weight), cotangents, is_grads_batched=True)

        def by_factor(factor):
            return torch.func.grad(lambda x: factor * total(x))(hidden).square().sum()

        return (
            torch.autograd.functional.jvp(loss, hidden, tangent)[1],
            torch.autograd.functional.jacobian(loss, hidden, vectorize=True),
            torch.func.grad(total)(hidden),
            torch.func.vjp(total, hidden)[1](torch.tensor(2.0, dtype=DOUBLE))[0],
            torch.func.jacrev(loss)(hidden),
            torch.func.grad(by_factor)(torch.tensor(2.0, dtype=DOUBLE)),
            torch.func.vmap(torch.func.grad(total))(batch),
            torch.func.vmap(lambda y: function(hidden, weight, y, **options))(labels),
            *by_batches(),
        )

    torch.testing.assert_close(values(linear_cross_entropy), values(linear_cross_entropy_reference))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_derivatives_by_operands_are_errors(reduction):
    hidden, weight = operands()

    def total(x):
        return linear_cross_entropy(x, weight, LABELS, reduction=reduction, loss_dtype=DOUBLE).sum()

    tangent = torch.randn_like(hidden)
    along = torch.autograd.functional.jvp(total, hidden, tangent, create_graph=True)[1]
    for second in (
        lambda: torch.autograd.grad(along, hidden),
        lambda: torch.autograd.functional.hvp(total, hidden, tangent),
        lambda: torch.autograd.functional.vhp(total, hidden, tangent),
        lambda: torch.func.jacrev(torch.func.grad(total))(hidden),
        lambda: torch.func.hessian(total)(hidden),
    ):
        with pytest.raises(NotImplementedError, match="derivative is defined"):
            second()


def test_under_autocast_transforms_see_the_same_dtypes():
    hidden, weight = operands(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = torch.autograd.grad(linear_cross_entropy(hidden, weight, LABELS), weight)[0]
        found = torch.func.grad(lambda w: linear_cross_entropy(hidden, w, LABELS))(weight)
    torch.testing.assert_close(found, plain, rtol=0, atol=0)


CHANGED = {"hidden": True, "weight": True, "labels": True, "bias": False, "scale": True, "class_weight": True}


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", CHANGED)
def test_operands_changed_before_the_backward(name, reduction):
    """An error exactly where the unfused statements raise it, and the gradients of the forward that was elsewhere."""

    def outcome(function):
        torch.manual_seed(0)
        hidden, weight = operands()
        tensors = {"hidden": hidden * 1, "weight": weight, "labels": LABELS.clone(), "bias": leaf(VOCABULARY)}
        tensors |= {"scale": leaf(), "class_weight": torch.rand(VOCABULARY, dtype=DOUBLE)}
        loss = function(**tensors, reduction=reduction, loss_dtype=DOUBLE).sum()
        with torch.no_grad():
            tensors[name].mul_(1 if name == "labels" else 2)
        try:
            return torch.autograd.grad(loss, (hidden, weight))
        except RuntimeError as error:
            return str(error).partition("modified by an inplace operation")[1]

    found, expected = outcome(linear_cross_entropy), outcome(linear_cross_entropy_reference)
    assert isinstance(expected, str) == CHANGED[name]
    if CHANGED[name]:
        assert found == expected == "modified by an inplace operation"
    else:
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("changed", ["hidden", "weight"])
@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_what_a_frozen_operand_makes_unneeded_may_change(frozen, changed):
    def raises(function):
        torch.manual_seed(0)
        tensors = dict(zip(("hidden", "weight"), operands(), strict=True))
        tensors[frozen].requires_grad_(False)
        loss = function(**tensors, labels=LABELS)
        with torch.no_grad():
            tensors[changed].mul_(2)
        try:
            loss.backward()
        except RuntimeError:
            return True
        return False

    assert raises(linear_cross_entropy) == raises(linear_cross_entropy_reference) == (frozen == changed)


def test_a_view_and_the_number_of_items_are_watched_and_copies_are_not():
    hidden, weight = operands(torch.float32)
    base, items, labels = hidden * 1, torch.tensor(3), LABELS.clone()
    for tensor, raises in ((base, True), (items, True), (labels, False)):
        loss = linear_cross_entropy(base.view(2, 3, HIDDEN), weight, labels.view(2, 3), num_items=items, shift=True)
        with torch.no_grad():
            tensor.mul_(1)
        if raises:
            with pytest.raises(RuntimeError, match="inplace"):
                loss.backward(retain_graph=True)
        else:
            loss.backward(retain_graph=True)


def test_under_autocast_the_copy_is_what_counts():
    hidden, weight = operands(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, LABELS)
    with torch.no_grad():
        weight.mul_(2)
    loss.backward()


def test_hidden_states_are_not_kept():
    """Only their version is: what holds a tensor's memory until the backward is as much as the gradients again."""
    import weakref

    hidden, weight = operands()
    states = hidden * 1
    storage = weakref.ref(states)
    loss = linear_cross_entropy(states, weight, LABELS)
    del states
    assert storage() is None
    loss.backward()


@pytest.mark.parametrize(
    ("frozen", "reduction", "products"),
    [("", "mean", 3), ("weight", "mean", 2), ("hidden", "mean", 2), ("both", "mean", 1), ("", "none", 4)],
)
def test_flops(frozen, reduction, products):
    """Rows that are ignored count as elsewhere; rows that weigh differently compute the logits twice."""
    hidden, weight = operands()
    hidden.requires_grad_(frozen not in ("hidden", "both"))
    weight.requires_grad_(frozen not in ("weight", "both"))
    module = torch.nn.Module()
    module.forward = lambda: linear_cross_entropy(hidden, weight, LABELS, reduction=reduction).sum()
    with FlopCounterMode(display=False) as counter:
        loss = module()
        if loss.requires_grad:
            loss.backward()
    assert counter.get_total_flops() == products * 2 * ROWS * HIDDEN * VOCABULARY
    assert counter.get_flop_counts()["Module"]


def test_flops_of_the_head_alone():
    hidden, weight = operands()
    with FlopCounterMode(display=False) as counter:
        ops.Linear(weight)(hidden).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * ROWS * HIDDEN * VOCABULARY


def test_a_counter_that_is_older_than_the_kernels_counts():
    from fusegen.kernels import flops

    counter = FlopCounterMode(display=False)
    for packet in flops._formulas:
        counter.flop_registry.pop(packet)
    with counter:
        linear_cross_entropy(*operands(), LABELS)
    assert counter.get_total_flops() == 3 * 2 * ROWS * HIDDEN * VOCABULARY
