"""Kernels where all arithmetic is exact: the order of the work must not change one bit.

Operands are small integers, so that each product with the head, and each of its partial sums, is an integer that
float32 holds. The scale of 128 takes different logits so far apart that the softmax of a row is 1 at its largest logit
and 0 elsewhere (rows with two largest are ignored). Losses and gradients are then integers as well, and whatever the
schedule, the budget, the chunks, the tiles and the backend are, the bits must be those of the definition in float64.
Not so the sums of `exact=True` on a GPU, which hold sixteen bits of each: those are compared within that.

Shapes are one below, at and above the sizes of tiles, blocks, slabs and chunks. Options that have no exact case meet
them in `test_triton_backend.py`, within a tolerance.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")

from torch import Tensor  # noqa: E402

from fusegen.kernels.linear_cross_entropy import chunked  # noqa: E402
from fusegen.kernels.linear_cross_entropy.problem import Need, RowLoss, Rows, RowWeights, Want  # noqa: E402
from fusegen.kernels.linear_cross_entropy.selection import Selection  # noqa: E402

IGNORED = -100
SCALE = 128.0
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HAS_GPU = torch.cuda.is_available() and not INTERPRETED
on_the_cpu = pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's process")
in_the_interpreter = pytest.mark.skipif(not INTERPRETED, reason="run by test_interpreted, in its process")
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")


@dataclass(frozen=True)
class Case:
    """Rows, hidden size and vocabulary; the first columns that count; the largest entry of the hidden states."""

    rows: int
    hidden: int
    vocabulary: int
    valid: int | None = None
    bias: bool = False
    ignored: bool = False
    reach: int = 2


def around(*sizes: int) -> Iterator[int]:
    """One below, at and above each size."""
    return (size + step for size in sizes for step in (-1, 0, 1))


def inputs_of(case: Case, dtype: torch.dtype, device: str, rounded: bool = True) -> tuple[Tensor, ...]:
    """Hidden states, head, labels, bias and row weights. rounded: the logits are held in `dtype`."""
    generator = torch.Generator().manual_seed(case.rows * 7919 + case.vocabulary)

    def integers(most: int, *shape: int) -> Tensor:
        return torch.randint(-most, most + 1, shape, generator=generator).to(device, dtype)

    hidden, weight = integers(case.reach, case.rows, case.hidden), integers(8, case.vocabulary, case.hidden)
    bias = integers(8, case.vocabulary)
    valid = case.valid or case.vocabulary
    labels = torch.randint(0, valid, (case.rows,), generator=generator).to(device)
    weights = torch.randint(1, 3, (case.rows,), generator=generator).float().to(device)
    if case.ignored:
        labels[::3] = IGNORED
    logits = logits_of(case, hidden, weight, bias, rounded)
    labels[(logits == logits.amax(1, keepdim=True)).sum(1) > 1] = IGNORED
    return hidden, weight, labels, bias, weights


def logits_of(case: Case, hidden: Tensor, weight: Tensor, bias: Tensor, rounded: bool) -> Tensor:
    """Before the scale, those that count, in float64."""
    product = hidden.double() @ weight.double().T
    product = product.to(hidden.dtype).double() if rounded else product
    return (product + (bias.double() if case.bias else 0))[:, : case.valid]


def definition(case: Case, inputs: tuple[Tensor, ...], rounded: bool = True) -> dict[str, Tensor]:
    """What a backend returns, from full logits in float64."""
    hidden, weight, labels, bias, weights = inputs
    counted = labels != IGNORED
    x = logits_of(case, hidden, weight, bias, rounded)[counted]
    target, top = labels[counted], x.argmax(1)
    z = SCALE * x
    lse = z.amax(1)
    logprob = z.gather(1, target[:, None]).squeeze(1) - lse
    of_z = torch.zeros(len(hidden), case.vocabulary, dtype=torch.float64, device=hidden.device)
    chosen = counted.nonzero().squeeze(1)
    of_z[chosen, top] += weights[counted].double()
    of_z[chosen, target] -= weights[counted].double()
    of_x = SCALE * of_z
    return {
        "loss": -logprob,
        "lse": lse,
        "logprob": logprob,
        "entropy": torch.zeros_like(lse),
        "top1": top,
        "grad_hidden": of_x @ weight.double(),
        "grad_weight": of_x.T @ hidden.double(),
        "grad_bias": of_x.sum(0),
        "grad_scale": (of_z[chosen][:, : x.shape[1]] * x).sum(),
    }


def assert_same_bits(found: Rows, expected: dict[str, Tensor], names: tuple[str, ...] | None = None) -> None:
    for name in names or tuple(expected):
        ours = getattr(found, name)
        if ours is not None:
            # Zeros of either sign are equal.
            assert torch.equal(ours, expected[name].to(ours.dtype)), name


def run(fused_rows: Any, case: Case, inputs: tuple[Tensor, ...], **options: Any) -> Rows:
    hidden, weight, labels, bias, weights = inputs
    options = {"row_weights": RowWeights(weights), "need": Need(True, True, case.bias, True), "budget": 2**30} | options
    return fused_rows(
        Selection(hidden, labels, IGNORED, case.valid or case.vocabulary),
        weight,
        bias=bias if case.bias else None,
        row=RowLoss(SCALE, valid_vocab=case.valid),
        class_weight=None,
        want=options.pop("want", Want(True, True)),
        **options,
    )


CHUNKED = (
    Case(130, 24, 77, bias=True, reach=8),
    Case(130, 512, 40, valid=33, ignored=True, reach=8),
    Case(65, 9, 300, valid=299, bias=True, ignored=True),
)


@on_the_cpu
@pytest.mark.parametrize("rows_a_chunk", [1, 3, *around(64), 1000])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("case", CHUNKED, ids=str)
def test_chunks_of_the_torch_backend(case: Case, dtype: torch.dtype, rows_a_chunk: int) -> None:
    """Sums that 16 bits cannot hold are rounded once, however many chunks there are."""
    inputs = inputs_of(case, dtype, "cpu")
    budget = rows_a_chunk * chunked.COPIES * 4 * (case.valid or case.vocabulary)
    for exact in (False, True):
        assert_same_bits(run(chunked.fused_rows, case, inputs, budget=budget, exact=exact), definition(case, inputs))


# -- Triton ----------------------------------------------------------------------------------------------------------

COLUMNS = [Case(2, 8, size, valid, bias=True) for size in around(256, 512) for valid in (None, size - 1)]
VALID = [Case(3, 8, 520, valid, ignored=True) for valid in around(256, 512)]
WALKS: tuple[tuple[int, int | None, int], ...] = ((1000, None, 0), (4, None, 0), (1000, 256, 0), (1000, 256, 1))
"""Rows of a chunk, columns of a slab, slabs that are kept."""
WALKED = [Case(rows, 8, columns) for rows in around(4) for columns in (511, 513)]


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's process")
def test_interpreted() -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(COLUMNS) + len(VALID) + len(WALKED) * len(WALKS)} passed" in done.stdout


def run_walk(
    case: Case, inputs: tuple[Tensor, ...], walk: tuple[int, int | None, int], patch: pytest.MonkeyPatch, **options: Any
) -> Rows:
    """The Triton backend along one schedule."""
    from fusegen.kernels.linear_cross_entropy import schedules

    tokens, columns, kept = walk

    def schedule(n_rows: int, vocabulary: int, *_: Any, **__: Any) -> Any:
        rows = max(1, n_rows) if columns else max(1, min(tokens, n_rows))
        return schedules.Schedule(rows, columns or vocabulary, kept)

    patch.setattr(schedules, "choose_schedule", schedule)
    return run(schedules.fused_rows, case, inputs, **options)


@in_the_interpreter
@pytest.mark.parametrize("case", COLUMNS + VALID, ids=str)
def test_columns_around_a_block(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of(case, torch.bfloat16, "cpu")
    assert_same_bits(run_walk(case, inputs, WALKS[0], monkeypatch), definition(case, inputs))


@in_the_interpreter
@pytest.mark.parametrize("walk", WALKS, ids=str)
@pytest.mark.parametrize("case", WALKED, ids=str)
def test_walks(case: Case, walk: tuple[int, int | None, int], monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of(case, torch.bfloat16, "cpu")
    assert_same_bits(run_walk(case, inputs, walk, monkeypatch), definition(case, inputs))


GPU_COLUMNS = [Case(40, 8, size, bias=True, ignored=True) for size in around(256, 512, 4096, 8192, 16384, 65536)]
GPU_WALKS: tuple[tuple[int, int | None, int], ...] = (
    *((5000, None, 0), (128, None, 0), (256, None, 0)),
    *((5000, 512, 0), (5000, 1024, 2), (5000, 8192, 0)),
)
GPU_WALKED = [Case(rows, 64, 8191, valid, reach=1) for rows in around(128, 512) for valid in (None, 8189)]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("case", GPU_COLUMNS, ids=str)
def test_columns_on_the_gpu(case: Case, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of(case, dtype, "cuda")
    assert_same_bits(run_walk(case, inputs, GPU_WALKS[0], monkeypatch), definition(case, inputs))
    assert_same_bits(run(chunked.fused_rows, case, inputs, budget=2**20), definition(case, inputs))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("walk", GPU_WALKS, ids=str)
@pytest.mark.parametrize("case", GPU_WALKED, ids=str)
def test_walks_on_the_gpu(
    case: Case, walk: tuple[int, int | None, int], exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(case, torch.bfloat16, "cuda")
    found, expected = run_walk(case, inputs, walk, monkeypatch, exact=exact), definition(case, inputs)
    if exact:
        of_weight, assumed = expected.pop("grad_weight"), found.grad_weight
        assert assumed is not None
        # Sixteen bits of the largest in each row, once for each chunk, and the rounding to eight.
        chunks = -(-case.rows // walk[0])
        allowed = chunks / 32767 * of_weight.abs().amax(1, keepdim=True) + 2**-8 * of_weight.abs()
        assert ((assumed.double() - of_weight).abs() <= allowed).all()
    assert_same_bits(found, expected)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("hidden", [56, 64, 72, 512])
@pytest.mark.parametrize("rows", [*around(64, 192), 1])
def test_losses_alone_on_the_gpu(rows: int, hidden: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Hopper GPU by products that keep no logits, so that nothing is rounded to 16 bits."""
    from fusegen.kernels.linear_cross_entropy import hopper, schedules

    special = hopper.kernels(torch.device("cuda")) is not None
    monkeypatch.setattr(schedules, "FEWEST_LOGITS", 0)
    for columns in around(256, 1024):
        case = Case(rows, hidden, columns, bias=True, ignored=True, reach=8)
        inputs = inputs_of(case, torch.bfloat16, "cuda", rounded=not special)
        found = run(schedules.fused_rows, case, inputs, row_weights=RowWeights(), need=Need(), want=Want())
        assert_same_bits(found, definition(case, inputs, rounded=not special), ("loss", "lse", "logprob"))
