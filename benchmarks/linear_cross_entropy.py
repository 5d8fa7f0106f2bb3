"""Time, workspace and gradient error of linear + cross-entropy, beside the peers that are installed.

    python benchmarks/linear_cross_entropy.py --out benchmarks/results      # JSON, and PNGs where matplotlib is
    python benchmarks/linear_cross_entropy_results.py --readme              # the README's table, from that JSON

Everything is measured through its public function and autograd, as a training step calls it. Times are
medians of 10 steps after warm-up, as multiples of the bare matrix products: three with both gradients, one
without gradients, two with a frozen head. These are measured again beside every contender, since the device's
clock drifts with its temperature, and the median of all is taken. Workspace is the peak allocated during a
step minus what was live before and minus the gradients. Errors are relative (Frobenius) against float32
gradients; every contender's gradients are checked. The softmax is peaked as a trained model's is: a quarter
of the labels are nearly certain. Without a GPU: one small size, which shows that everything runs and says
nothing about time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from linear_cross_entropy_results import draw, table
from torch import Tensor
from torch.nn import functional as F

from fusegen.kernels import linear_cross_entropy
from fusegen.kernels.backends import default_budget

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
SHAPES = (
    (8192, 4096, 128256),
    (8192, 2304, 256000),
    (8192, 2048, 151936),
    (4096, 4096, 32000),
    (32768, 4096, 128256),
)
SMALL_SHAPES = ((72, 64, 500),)
IGNORED = -100
PACKAGES = ("torch", "triton", "liger-kernel", "cut-cross-entropy", "trl", "transformers")
MEGABYTE = 2**20
WORST_GRADIENT_ERROR = 3e-2

Step = Callable[[], "Result"]


@dataclass
class Result:
    """Of one step: the mean loss, and the gradients that it computed."""

    loss: Tensor
    grad_hidden: Tensor | None = None
    grad_weight: Tensor | None = None


@dataclass
class Measurement:
    """One contender at one shape. `floor_ms`: the bare products that its step cannot do without."""

    shape: tuple[int, int, int]
    setting: str
    contender: str
    ms: float | None = None
    floor_ms: float | None = None
    multiple: float | None = None
    workspace_mb: float | None = None
    grad_weight_error: float | None = None
    grad_hidden_error: float | None = None
    loss_error: float | None = None
    ms_of_all_steps: list[float] = field(default_factory=list)
    failure: str | None = None


@dataclass
class Inputs:
    """Hidden states, head and labels, with what float32 makes of them."""

    hidden: Tensor
    weight: Tensor
    labels: Tensor
    loss: Tensor
    grad_hidden: Tensor
    grad_weight: Tensor


def make_inputs(shape: tuple[int, int, int], ignored: float = 0.0) -> Inputs:
    """Logits are noise of deviation 1, and 2 to 16 more at the label."""
    n_rows, hidden_size, vocabulary = shape
    torch.manual_seed(0)
    dtype = torch.bfloat16 if ON_GPU else torch.float32
    weight = torch.randn(vocabulary, hidden_size, device=DEVICE) / hidden_size**0.5
    labels = torch.randint(0, vocabulary, (n_rows,), device=DEVICE)
    hidden = torch.randn(n_rows, hidden_size, device=DEVICE)
    hidden += weight[labels] * (2 + 14 * torch.rand(n_rows, 1, device=DEVICE))
    labels[torch.rand(n_rows, device=DEVICE) < ignored] = IGNORED
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    return Inputs(hidden, weight, labels, *_float32_gradients(hidden, weight, labels))


def _float32_gradients(hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean loss and both gradients in float32, a chunk of rows at a time."""
    head = weight.float()
    count = (labels != IGNORED).sum()
    loss = torch.zeros((), dtype=torch.float64, device=DEVICE)
    grad_hidden, grad_weight = torch.zeros_like(hidden, dtype=torch.float32), torch.zeros_like(head)
    for rows in torch.arange(len(hidden), device=DEVICE).split(2048):
        x = hidden[rows].float()
        logits = x @ head.t()
        loss += F.cross_entropy(logits, labels[rows], ignore_index=IGNORED, reduction="sum").double()
        counted = labels[rows] != IGNORED
        gradient = logits.softmax(1)
        gradient[counted, labels[rows][counted]] -= 1
        gradient[~counted] = 0
        gradient /= count
        grad_hidden[rows] = gradient @ head
        grad_weight.addmm_(gradient.t(), x)
    return loss / count, grad_hidden, grad_weight


LossOf = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The mean loss of hidden states, head and labels."""


def autograd_step(inputs: Inputs, loss_of: LossOf, setting: str = "both") -> Step:
    """Forward and backward with both gradients, with that of the hidden states alone, or the forward alone."""
    hidden = inputs.hidden.detach().requires_grad_(setting != "forward")
    weight = inputs.weight.detach().requires_grad_(setting not in ("forward", "frozen head"))

    def step() -> Result:
        hidden.grad = weight.grad = None
        loss = loss_of(hidden, weight, inputs.labels)
        if loss.requires_grad:
            loss.backward()
        result = Result(loss.detach(), hidden.grad, weight.grad)
        hidden.grad = weight.grad = None
        return result

    return step


def _eager(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy((hidden @ weight.t()).float(), labels, ignore_index=IGNORED)


def peers() -> Iterator[tuple[str, Callable[[], LossOf]]]:
    """Names, and what imports each: it raises ImportError or AttributeError where a peer is not there."""
    yield "torch eager", lambda: _eager
    yield "torch.compile", lambda: torch.compile(_eager)
    yield "F.linear_cross_entropy", lambda: F.linear_cross_entropy

    def liger(accum_dtype: torch.dtype | None) -> LossOf:
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        return lambda hidden, weight, labels: liger_fused_linear_cross_entropy(
            hidden, weight, labels, ignore_index=IGNORED, accum_dtype=accum_dtype
        )

    yield "liger", lambda: liger(None)
    yield "liger, float32 sums", lambda: liger(torch.float32)

    def cce(**options: Any) -> LossOf:
        from cut_cross_entropy import linear_cross_entropy

        return partial(linear_cross_entropy, ignore_index=IGNORED, **options)

    yield "cut-cross-entropy", cce
    yield "cut-cross-entropy, unfiltered", lambda: cce(filter_eps=None)

    def trl() -> LossOf:
        from trl.kernels.chunked_logprob import ChunkedLogProbFunction

        def loss(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
            counted = labels != IGNORED
            found = ChunkedLogProbFunction.apply(
                hidden[counted], weight, None, labels[counted], 1.0, 16384, None, 1.0, ()
            )
            return -found[0].mean()

        return loss

    yield "trl chunked head", trl


def synchronize() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


def milliseconds(step: Callable[[], object], steps: int = 10, warm_up: float = 0.5) -> list[float]:
    """Times of single steps, after at least two of them and `warm_up` seconds."""
    if not ON_GPU:
        start = time.perf_counter()
        step()
        return [1e3 * (time.perf_counter() - start)]
    start, done = time.perf_counter(), 0
    while done < 2 or time.perf_counter() - start < warm_up:
        step()
        synchronize()
        done += 1
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(steps)]
    for before, after in events:
        before.record()
        step()
        after.record()
    synchronize()
    return [before.elapsed_time(after) for before, after in events]


def bare_products(inputs: Inputs, setting: str) -> Callable[[], None]:
    """The products that no step with full logits can do without."""
    hidden, weight = inputs.hidden, inputs.weight
    logits = hidden.new_empty(len(hidden), len(weight))
    grad_hidden, grad_weight = torch.empty_like(hidden), torch.empty_like(weight)

    def products() -> None:
        torch.mm(hidden, weight.t(), out=logits)
        if setting != "forward":
            torch.mm(logits, weight, out=grad_hidden)
        if setting not in ("forward", "frozen head"):
            torch.mm(logits.t(), hidden, out=grad_weight)

    return products


def measure(found: Measurement, inputs: Inputs, step: Step) -> None:
    """Fills in workspace, errors and times; a step that fails says why."""
    try:
        step()
        synchronize()
        if ON_GPU:
            torch.cuda.reset_peak_memory_stats()
            live = torch.cuda.memory_allocated()
        result = step()
        synchronize()
        gradients = [g for g in (result.grad_hidden, result.grad_weight) if g is not None]
        if ON_GPU:
            peak = torch.cuda.max_memory_allocated() - live - sum(g.numel() * g.element_size() for g in gradients)
            found.workspace_mb = max(0, peak) / MEGABYTE
        found.loss_error = abs(float(result.loss) / float(inputs.loss) - 1)
        found.grad_hidden_error = _error(result.grad_hidden, inputs.grad_hidden)
        found.grad_weight_error = _error(result.grad_weight, inputs.grad_weight)
        errors = [e for e in (found.grad_hidden_error, found.grad_weight_error) if e is not None]
        if not all(error < WORST_GRADIENT_ERROR for error in errors):
            found.failure = f"wrong gradients: {errors}"
        del result, gradients
        found.ms_of_all_steps = milliseconds(step)
        found.ms = statistics.median(found.ms_of_all_steps)
        found.floor_ms = statistics.median(milliseconds(bare_products(inputs, found.setting)))
    except Exception as error:  # a peer's failure is a line of the table
        found.failure = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"


def _error(found: Tensor | None, expected: Tensor) -> float | None:
    if found is None:
        return None
    return float((found.float() - expected).norm() / expected.norm())


def ours(inputs: Inputs) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Setting, name and options of every variant of this project."""
    vocabulary, hidden_size = inputs.weight.shape
    size = inputs.weight.element_size()
    default = default_budget(DEVICE, vocabulary, size) if ON_GPU else 64 * 4 * size * vocabulary
    lean = (512 if vocabulary > 200000 else 256) * MEGABYTE if ON_GPU else default // 2
    everything = len(inputs.hidden) * (vocabulary + 16) * 4 * size
    yield "both", "fusegen", {"budget": default}
    yield "both", "fusegen, lean", {"budget": lean}
    yield "both", "fusegen, half of the default", {"budget": default // 2}
    yield "both", "fusegen, all logits", {"budget": everything}
    yield "both", "fusegen, exact", {"budget": default, "exact": True}
    yield "both", "fusegen, exact and lean", {"budget": lean, "exact": True}
    # What a float32 copy of the head's gradient would take, spent on logits.
    yield "both", "fusegen, exact and wide", {"budget": default + 4 * vocabulary * hidden_size, "exact": True}
    yield "forward", "fusegen", {"budget": default}
    yield "frozen head", "fusegen", {"budget": default}


def contenders(inputs: Inputs, half_ignored: bool, without_peers: bool) -> Iterator[tuple[str, str, Step | str]]:
    """Setting, name, and the step or why there is none."""
    for setting, name, options in ours(inputs):
        if not half_ignored:
            yield setting, name, autograd_step(inputs, partial(linear_cross_entropy, **options), setting)
        elif (setting, name) in {("both", "fusegen"), ("both", "fusegen, exact")}:
            yield "half ignored", name, autograd_step(inputs, partial(linear_cross_entropy, **options))
    for name, find in () if without_peers else peers():
        try:
            step: Step | str = autograd_step(inputs, find())
        except (ImportError, AttributeError, RuntimeError) as error:
            step = f"not there: {str(error)[:200]}"
        yield "half ignored" if half_ignored else "both", name, step


def benchmark(shape: tuple[int, int, int], without_peers: bool) -> Iterator[Measurement]:
    """All contenders at one shape; the first shape also with half of the labels ignored."""
    for ignored in (0.0, 0.5) if shape in (SHAPES[0], SMALL_SHAPES[0]) else (0.0,):
        inputs = make_inputs(shape, ignored)
        measured: list[Measurement] = []
        for setting, name, step in contenders(inputs, ignored > 0, without_peers):
            measured.append(Measurement(shape, setting, name))
            if isinstance(step, str):
                measured[-1].failure = step
            else:
                measure(measured[-1], inputs, step)
                torch.compiler.reset()
        for found in measured:
            floors = [each.floor_ms for each in measured if each.floor_ms and each.setting == found.setting]
            if found.ms is not None:
                found.floor_ms = statistics.median(floors)
                found.multiple = found.ms / found.floor_ms
            yield found
        del inputs


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if ON_GPU:
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the JSON and the PNGs")
    parser.add_argument("--shapes", type=int, nargs="*", help="indices of the shapes to run")
    parser.add_argument("--without-peers", action="store_true")
    arguments = parser.parse_args()
    shapes = SHAPES if ON_GPU else SMALL_SHAPES
    measurements: list[dict[str, Any]] = []
    for index in range(len(shapes)) if arguments.shapes is None else arguments.shapes:
        found = [asdict(each) for each in benchmark(shapes[index], arguments.without_peers)]
        measurements += found
        print(table(found), flush=True)
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            report = {"versions": versions(), "measurements": measurements}
            (arguments.out / "linear_cross_entropy.json").write_text(json.dumps(report, indent=1) + "\n")
    if arguments.out:
        try:
            draw(measurements, arguments.out)
        except ImportError:
            print("matplotlib is not installed: no pictures")


if __name__ == "__main__":
    main()
