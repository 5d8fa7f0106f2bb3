"""Sequences of basic operators: each against torch, fused against unfused, and why some stay unfused."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from fusegen.kernels import ops  # noqa: E402
from fusegen.kernels.fuser import FusedLinearCrossEntropy, fuse  # noqa: E402
from fusegen.kernels.operator import Operator  # noqa: E402
from fusegen.kernels.ops import Bias, Cast, CrossEntropy, Linear, LogitScale, Sequence, SoftCap, VocabSlice  # noqa: E402

ROOT = Path(__file__).parents[2]
HIDDEN, VOCABULARY = 4, 11
LABELS = torch.tensor([1, 2, -100, 4, 0, 3])


def leaf(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype).requires_grad_()


def test_names_are_those_of_the_scanner():
    """By text: kernels and codegen do not import each other."""
    scanned = {}
    for path in sorted((ROOT / "codegen" / "logit_ops").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        for name in set(re.findall(r'Step\("(\w+)"', text)) - {"mask", "token_select"}:
            scanned[name] = set(re.findall(r'\(\("(\w+)", ', text))
    basic = {getattr(ops, each).name: getattr(ops, each) for each in ops.__all__ if each != "Sequence"}
    held = {name: set(basic[name].__dataclass_fields__) for name in set(basic) - {"linear", "cross_entropy"}}
    assert scanned == held


def test_the_sequence_is_torchs_own_arithmetic():
    hidden, weight, bias, scale = leaf(6, HIDDEN), leaf(VOCABULARY, HIDDEN), leaf(VOCABULARY), leaf()
    classes = torch.rand(9, dtype=torch.float64)

    def unfused(hidden, weight, bias, scale):
        operators = (Linear(weight), Bias(bias), LogitScale(scale, 2.0), SoftCap(3.0), VocabSlice(9))
        return Sequence((*operators, Cast(torch.float64), CrossEntropy(LABELS, classes, label_smoothing=0.1)))(hidden)

    logits = 3 * torch.tanh((hidden @ weight.T + bias) * scale / 2 / 3)
    expected = F.cross_entropy(logits[:, :9], LABELS, classes, label_smoothing=0.1)
    torch.testing.assert_close(unfused(hidden, weight, bias, scale), expected)
    assert torch.autograd.gradcheck(unfused, (hidden, weight, bias, scale))


def assert_fuses(sequence, hidden, leaves):
    fused = fuse(sequence)
    assert [type(each) for each in fused.operators] == [FusedLinearCrossEntropy]
    results = []
    for each in (sequence, fused):
        loss = each(hidden)
        results.append((loss, torch.autograd.grad(loss.sum(), leaves)))
    torch.testing.assert_close(results[1], results[0], equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_sequence_fused_equals_it_unfused(data):
    def choose(*values):
        return data.draw(st.sampled_from(values))

    torch.manual_seed(data.draw(st.integers(0, 1000)))
    rows = data.draw(st.integers(0, 9))
    hidden, weight, bias, add, scale = (
        leaf(rows, HIDDEN),
        leaf(VOCABULARY, HIDDEN),
        leaf(VOCABULARY),
        leaf(1, VOCABULARY),
        leaf(),
    )
    labels = torch.randint(0, 6, (rows,))
    labels[torch.rand(rows) < choose(0.0, 0.5, 1.0)] = -1
    operators = [Linear(weight, choose(None, bias))]
    operators += choose([], [Bias(add)])
    operators += choose([], [LogitScale(scale)], [LogitScale(2.0, scale), LogitScale(0.3)], [LogitScale(divide=3)])
    operators += choose([], [SoftCap(2.0)])
    operators += choose([], [VocabSlice(7)])
    operators += choose([], [Cast(torch.float64)])
    columns = 7 if any(isinstance(each, VocabSlice) for each in operators) else VOCABULARY
    classes = choose(None, torch.rand(columns, dtype=torch.float64) + 0.1)
    operators.append(CrossEntropy(labels, classes, -1, choose(0.0, 0.2), choose("mean", "sum", "none")))
    used = [
        hidden,
        *(t for each in operators for t in each.operands() if isinstance(t, torch.Tensor) and t.requires_grad),
    ]
    assert_fuses(Sequence(tuple(operators)), hidden, used)


def test_what_stands_before_and_after_stays():
    hidden, weight = leaf(6, HIDDEN), leaf(VOCABULARY, HIDDEN)
    sequence = Sequence((SoftCap(2.0), Linear(weight), CrossEntropy(LABELS), LogitScale(0.5)))
    fused = fuse(sequence)
    assert [type(each) for each in fused.operators] == [SoftCap, FusedLinearCrossEntropy, LogitScale]
    torch.testing.assert_close(fused(hidden), sequence(hidden))


def test_a_fused_part_beside_a_legacy_operator():
    class Half(Operator, name="test_half"):
        @staticmethod
        def forward(ctx, loss):
            return loss / 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient / 2

    hidden, sequence = leaf(6, HIDDEN), Sequence((Linear(leaf(VOCABULARY, HIDDEN)), CrossEntropy(LABELS)))
    loss = Sequence((*fuse(sequence).operators, Half()))(hidden)
    expected = sequence(hidden) / 2
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, hidden), torch.autograd.grad(expected, hidden))


WEIGHT = torch.zeros(VOCABULARY, HIDDEN)


@pytest.mark.parametrize(
    ("operators", "reason"),
    [
        ((Linear(WEIGHT), SoftCap(1.0)), "no CrossEntropy"),
        ((SoftCap(1.0), CrossEntropy(LABELS)), "no Linear before CrossEntropy"),
        ((Linear(WEIGHT), SoftCap(1.0), LogitScale(2.0), CrossEntropy(LABELS)), "LogitScale after SoftCap"),
        ((Linear(WEIGHT), SoftCap(1.0), SoftCap(2.0), CrossEntropy(LABELS)), "a second SoftCap"),
        ((Linear(WEIGHT), LogitScale(2.0), Bias(WEIGHT[:, 0]), CrossEntropy(LABELS)), "Bias after scale"),
        ((Linear(WEIGHT), Cast(torch.bfloat16), CrossEntropy(LABELS)), "a cast to torch.bfloat16 drops digits"),
    ],
)
def test_what_cannot_be_fused_says_why(operators, reason, caplog):
    sequence = Sequence(operators)
    with caplog.at_level(logging.INFO, logger="fusegen"):
        assert fuse(sequence) is sequence
    assert reason in caplog.text
