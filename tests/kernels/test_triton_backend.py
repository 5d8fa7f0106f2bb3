"""The Triton kernels and their schedules against float64, interpreted on the CPU, and on a GPU where there is one.

The interpreter is chosen when triton is imported, so the cases run in a process of their own that has it:
`test_interpreted` starts it on this very file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fusegen.kernels.linear_cross_entropy.operators import FLOAT16_LENGTH
from fusegen.kernels.linear_cross_entropy.problem import Need, RowLoss, RowWeights, Want
from fusegen.kernels.linear_cross_entropy.selection import Selection

pytest.importorskip("triton", reason="triton is not installed")

IGNORED = -100
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
in_the_interpreter = pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreted, in its process")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available() or INTERPRETED, reason="needs a CUDA device")


@dataclass(frozen=True)
class Case:
    """Rows, hidden size, vocabulary; the budget in rows of logits, or 0 for slabs; options of the row's loss.

    `ignored`: the share of rows that do not count. `outputs`: log-probability and entropy have gradients as well.
    """

    n_rows: int
    hidden_size: int
    vocabulary: int
    budget_rows: int = 2048
    scale: float = 1.0
    softcap: float | None = None
    valid_vocab: int | None = None
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    bias: bool = False
    class_weight: bool = False
    exact: bool = False
    ignored: float = 0.0
    outputs: bool = False


OPTIONS: tuple[dict[str, Any], ...] = (
    {"softcap": 4.0},
    {"label_smoothing": 0.1, "class_weight": True},
    {"z_loss": 0.02, "outputs": True},
)


def around(*sizes: int) -> tuple[Case, ...]:
    """Each option, and each together with fewer columns that count, one below, at and above sizes of a vocabulary."""
    columns = [size + step for size in sizes for step in (-1, 0, 1)]
    whole = [Case(1, 8, size, **option) for size in columns for option in OPTIONS]
    return *whole, *(replace(case, vocabulary=case.vocabulary + 2, valid_vocab=case.vocabulary) for case in whole)


CASES = (
    *around(256),
    Case(5, 16, 77),
    Case(1, 24, 1000, softcap=5.0, bias=True),
    Case(1, 3, 1),
    Case(33, 40, 301, scale=0.5, label_smoothing=0.1, class_weight=True, valid_vocab=257),
    Case(70, 8, 129, scale=1.7, softcap=3.0, bias=True, label_smoothing=0.2, z_loss=0.01),
    Case(20, 12, 8200, valid_vocab=8195),
    Case(47, 24, 203, ignored=0.4, bias=True, softcap=4.0),
    Case(9, 24, 203, ignored=1.0),
    # Two even chunks for all rows, but one larger chunk for those that count.
    Case(390, 4, 17, 384, ignored=0.1),
    Case(21, 16, 301, outputs=True, ignored=0.2, softcap=6.0, label_smoothing=0.1, valid_vocab=290),
    Case(21, 16, 1100, 0, outputs=True, ignored=0.3, scale=1.5, z_loss=0.02),
    Case(40, 72, 1531, 0, softcap=4.0, bias=True, label_smoothing=0.1, class_weight=True, valid_vocab=1500),
    Case(40, 16, 1100, 0, z_loss=0.1, scale=2.0, valid_vocab=3),
)
GPU_CASES = (
    *CASES,
    *around(4096, 8192, 65536),
    Case(700, 72, 1301, 300, label_smoothing=0.1),
    Case(700, 72, 1301, 300, ignored=0.05, outputs=True),
    Case(1700, 72, 1301, 1024, ignored=0.5),
    Case(1700, 72, 1301, 1024, ignored=0.9, exact=True),
    Case(700, 72, 1301, 300, exact=True),
    Case(700, 136, 1304, 260, exact=True, bias=True),
    Case(900, 20, 1304, 260, exact=True),
)
# A few times what full logits in that dtype cost.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}
INTERPRETED_DTYPES = (torch.float32, torch.bfloat16)


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's process")
def test_interpreted() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CASES) * len(INTERPRETED_DTYPES) + 6} passed" in done.stdout


@in_the_interpreter
@pytest.mark.parametrize("dtype", INTERPRETED_DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_float64(case: Case, dtype: torch.dtype) -> None:
    check(case, dtype, "cpu")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", GPU_CASES, ids=str)
def test_matches_float64_on_the_gpu(case: Case, dtype: torch.dtype) -> None:
    check(case, dtype, "cuda")


@in_the_interpreter
def test_no_gradient_work_without_row_weights() -> None:
    hidden, weight, labels = torch.randn(4, 8), torch.randn(50, 8), torch.arange(4)
    rows = run(Case(4, 8, 50), hidden, weight, labels, None, None, RowWeights())
    assert (rows.grad_hidden, rows.grad_weight, rows.grad_bias, rows.grad_scale) == (None,) * 4
    torch.testing.assert_close(rows.loss, F.cross_entropy(hidden @ weight.t(), labels, reduction="none"))


@in_the_interpreter
def test_no_rows() -> None:
    weights = RowWeights(torch.ones(0))
    rows = run(Case(0, 8, 50), torch.randn(0, 8), torch.randn(50, 8), torch.arange(0), None, None, weights)
    assert rows.loss.shape == (0,)
    assert rows.grad_weight is not None
    assert not rows.grad_weight.any()


@in_the_interpreter
def test_losses_from_statistics_alone() -> None:
    """As where a product has kept the maxima and sums of its rows by blocks of columns, and no logits."""
    from fusegen.kernels.linear_cross_entropy.softmax_kernel import Flags, label_logits, softmax_rows

    torch.manual_seed(0)
    hidden, weight, labels = torch.randn(6, 40), torch.randn(70, 40), torch.tensor([0, 63, 64, 68, 5, 5])
    blocks = (1.5 * hidden @ weight[:69].t()).split(16, dim=1)
    maxima = torch.stack([block.amax(1) for block in blocks], 1)
    sums = torch.stack([(block - block.amax(1, keepdim=True)).exp().sum(1) for block in blocks], 1)
    outputs = {name: torch.empty(6) for name in ("loss", "lse", "logprob", "label_logit")}
    label_logits(hidden, weight, labels, outputs["label_logit"])
    statistics = torch.stack([maxima, sums], 1)
    softmax_rows(None, labels, outputs, flags=Flags(), statistics=statistics, scale=1.5, valid_vocab=69, z_loss=0.1)
    logits = torch.cat(blocks, 1)
    torch.testing.assert_close(outputs["lse"], logits.logsumexp(1))
    torch.testing.assert_close(outputs["logprob"], -F.cross_entropy(logits, labels, reduction="none"))
    torch.testing.assert_close(outputs["loss"], 0.1 * outputs["lse"] ** 2 - outputs["logprob"])


@in_the_interpreter
def test_strided_operands() -> None:
    case = Case(5, 16, 77, bias=True, class_weight=True, label_smoothing=0.1)
    hidden, weight, labels, bias, class_weight, row_weights = make_inputs(case, torch.float32, "cpu")
    expected = run(case, hidden, weight, labels, bias, class_weight, row_weights)

    def strided(values: Tensor) -> Tensor:
        return torch.stack([values, torch.full_like(values, 76)], 1)[:, 0]

    found = run(case, hidden, weight, strided(labels), strided(bias), strided(class_weight), row_weights)
    for name in ("loss", "grad_hidden", "grad_weight", "grad_bias"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)


@in_the_interpreter
@pytest.mark.parametrize("hidden_size", [8, 264])
def test_sums_over_chunks_are_rounded_once(hidden_size: int) -> None:
    """Beyond one tile, and with columns that no tile divides. The interpreter multiplies bfloat16 as integers."""
    from fusegen.kernels.linear_cross_entropy.exact_product import add_product, product_scales

    torch.manual_seed(0)
    vocabulary, chunks = 200, (70, 5, 64)
    gradients = [torch.randn(tokens, vocabulary).half() for tokens in chunks]
    hidden = [torch.randn(tokens, hidden_size).half() for tokens in chunks]
    found = torch.full((vocabulary, hidden_size), torch.nan, dtype=torch.float16)
    scales = product_scales(found)
    for number, (gradient, states) in enumerate(zip(gradients, hidden, strict=True)):
        add_product(gradient, states, found, scales, first=number == 0, last=number == 2)
    exact = sum(gradient.double().t() @ states.double() for gradient, states in zip(gradients, hidden, strict=True))
    rounded = relative(exact.half(), exact)
    assert relative(found, exact) < 1.02 * rounded


@pytest.mark.gpu
@needs_gpu
def test_exact_is_as_exact_as_full_logits() -> None:
    """Eight chunks of tokens: rounding the head's gradient after each costs a third more error, `exact` nothing."""
    case = Case(2048, 256, 4096)
    inputs = make_inputs(case, torch.bfloat16, "cuda")
    expected = reference(case, *inputs)[0]["grad_weight"]

    def error(rows: int, exact: bool) -> float:
        found = run(replace(case, budget_rows=rows, exact=exact), *inputs).grad_weight
        return relative(found, expected)

    assert error(256, True) < 1.02 * error(4096, False) < 0.9 * error(256, False)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_labels_outside_stop_the_device(reduction: str) -> None:
    """With our message also where a class weight is looked up by the label."""
    program = (
        "import torch; from fusegen.kernels import linear_cross_entropy;"
        "labels = torch.tensor([3, 50], device='cuda');"
        "hidden, weight = torch.randn(2, 8, device='cuda'), torch.randn(50, 8, device='cuda');"
        f"options = dict(class_weight=torch.ones(50, device='cuda'), reduction='{reduction}');"
        "linear_cross_entropy(hidden, weight, labels, ignore_index=50, **options);"
        "torch.cuda.synchronize(); print('ignored');"
        "linear_cross_entropy(hidden, weight, labels, **options); torch.cuda.synchronize()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert done.stdout.startswith("ignored")
    assert "a label is outside the vocabulary" in done.stdout + done.stderr


def make_inputs(case: Case, dtype: torch.dtype, device: str) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(case.n_rows)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    weight = normal(case.vocabulary, case.hidden_size) * (2 / case.hidden_size**0.5)
    labels = torch.randint(0, case.valid_vocab or case.vocabulary, (case.n_rows,), generator=generator)
    bias = normal(case.vocabulary).to(dtype).to(device) if case.bias else None
    class_weight = torch.rand(case.vocabulary, generator=generator).to(device) if case.class_weight else None
    labels[torch.rand(case.n_rows, generator=generator) < case.ignored] = IGNORED
    by_row = torch.rand(3 if case.outputs else 1, case.n_rows, generator=generator)
    if dtype == torch.float16:
        # As the operators do: most entries of a gradient of ordinary size are below what float16 holds.
        by_row *= FLOAT16_LENGTH / by_row[0].norm()
    row_weights = RowWeights(*by_row.to(device))
    hidden = normal(case.n_rows, case.hidden_size).to(dtype).to(device)
    return hidden, weight.to(dtype).to(device), labels.to(device), bias, class_weight, row_weights


def run(
    case: Case,
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    row_weights: RowWeights,
) -> Any:
    from fusegen.kernels.linear_cross_entropy.schedules import fused_rows

    budget = case.budget_rows * (case.vocabulary + 15) * hidden.element_size()
    row = RowLoss(case.scale, case.softcap, case.valid_vocab, case.label_smoothing, case.z_loss)
    return fused_rows(
        Selection(hidden, labels, IGNORED, case.valid_vocab or case.vocabulary),
        weight,
        bias=bias,
        row=row,
        class_weight=class_weight,
        row_weights=row_weights,
        need=Need(True, True, bias is not None, True),
        budget=max(1, budget),
        exact=case.exact,
        want=Want(True, True),
    )


def reference(
    case: Case,
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    row_weights: RowWeights,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Everything in float64 with full logits, numbers per row of those that count; and how large the terms are."""
    counted = labels != IGNORED
    labels = labels[counted]
    scale = torch.tensor(case.scale, dtype=torch.float64, device=hidden.device)
    leaves = {"hidden": hidden.double(), "weight": weight.double(), "scale": scale}
    if bias is not None:
        leaves["bias"] = bias.double()
    for leaf in leaves.values():
        leaf.requires_grad_()
    product = leaves["hidden"][counted] @ leaves["weight"].t() + leaves.get("bias", 0)
    logits = product * leaves["scale"]
    if case.softcap is not None:
        logits = case.softcap * torch.tanh(logits / case.softcap)
    logits = logits[:, : case.valid_vocab]
    classes = None if class_weight is None else class_weight.double()[: case.valid_vocab]
    lse, logprobs = logits.logsumexp(1), logits.log_softmax(1)
    loss = F.cross_entropy(logits, labels, classes, label_smoothing=case.label_smoothing, reduction="none")
    loss = loss + case.z_loss * lse**2
    outputs = {"loss": loss, "lse": lse, "logprob": logprobs.gather(1, labels[:, None]).squeeze(1)}
    outputs["entropy"] = -(logprobs.exp() * logprobs).sum(1)
    weights = {name: weight[counted].double() for name, weight in vars(row_weights).items() if weight is not None}
    total = sum((outputs[name] * weight).sum() for name, weight in weights.items())
    by_product, *gradients = torch.autograd.grad(total, [product, *leaves.values()])
    outputs |= {f"grad_{name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}
    sizes = {
        "grad_hidden": by_product.abs() @ leaves["weight"].detach().abs(),
        "grad_scale": (by_product * product.detach()).abs().sum() / leaves["scale"].detach().abs(),
    }
    return {**{name: value.detach() for name, value in outputs.items()}, "logits": logits.detach()}, sizes


def check(case: Case, dtype: torch.dtype, device: str) -> None:
    inputs = make_inputs(case, dtype, device)
    expected, sizes = reference(case, *inputs)
    logits = expected.pop("logits")
    rows = run(case, *inputs)
    for name, value in expected.items():
        found = getattr(rows, name)
        error = float((found.double() - value).norm())
        # Terms that cancel each other in a sum are rounded all the same, a few times.
        rounding = 8 * torch.finfo(dtype).eps * float(sizes[name].norm()) if name in sizes else 0.0
        assert error <= TOLERANCE[dtype] * (float(value.norm()) + 1e-3) + rounding, (name, error, float(value.norm()))
    if len(logits) == 0:
        return
    best = logits.gather(1, rows.top1[:, None]).squeeze(1)
    assert (logits.amax(1) - best <= 4 * TOLERANCE[dtype]).all()


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())
