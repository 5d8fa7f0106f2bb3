"""Time, workspace and gradient error of linear + cross-entropy, beside the peers that are installed.

    python benchmarks/linear_cross_entropy.py --out benchmarks/results      # JSON, and PNGs where matplotlib is
    python benchmarks/linear_cross_entropy.py --table FILE.json             # the table, in Markdown

Times are medians of 10 steps after warm-up, as multiples of the bare matrix products of the same run (three
with both gradients, one without gradients, two with a frozen head), measured before and after the rest.
Workspace is the peak allocated during a step minus what was live before and minus the gradients. Errors are
relative (Frobenius) against float32 gradients; every contender's gradients are checked. The softmax is
peaked as a trained model's is: a quarter of the labels are nearly certain. Without a GPU: one small size, the
Triton kernels interpreted, which shows that everything runs and says nothing about time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from torch import Tensor
from torch.nn import functional as F

from fusegen.kernels.linear_cross_entropy.problem import Need, RowLoss
from fusegen.kernels.linear_cross_entropy.schedules import default_budget, fused_rows

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


BOTH = Need(hidden=True, weight=True)


def fusegen_step(inputs: Inputs, budget: int, *, exact: bool = False, need: Need = BOTH) -> Step:
    """Ours, from labels with ignored rows to both gradients."""

    def step() -> Result:
        rows = (inputs.labels != IGNORED).nonzero().squeeze(1)
        everything = len(rows) == len(inputs.labels)
        hidden = inputs.hidden if everything else inputs.hidden.index_select(0, rows)
        labels = inputs.labels if everything else inputs.labels.index_select(0, rows)
        row_weight = None
        if need.hidden or need.weight:
            row_weight = torch.full((len(rows),), 1 / len(rows), dtype=torch.float32, device=DEVICE)
        made = fused_rows(
            hidden,
            inputs.weight,
            labels,
            bias=None,
            row=RowLoss(),
            class_weight=None,
            row_weight=row_weight,
            need=need,
            budget=budget,
            exact=exact,
        )
        grad_hidden = made.grad_hidden
        if grad_hidden is not None and not everything:
            grad_hidden = torch.zeros_like(inputs.hidden).index_copy_(0, rows, grad_hidden)
        return Result(made.loss.mean(), grad_hidden, made.grad_weight)

    return step


def autograd_step(inputs: Inputs, loss_of: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Step:
    """A peer: a function of hidden states, head and labels, with both gradients."""
    hidden, weight = inputs.hidden.detach().requires_grad_(), inputs.weight.detach().requires_grad_()

    def step() -> Result:
        hidden.grad = weight.grad = None
        loss = loss_of(hidden, weight, inputs.labels)
        loss.backward()
        result = Result(loss.detach(), hidden.grad, weight.grad)
        hidden.grad = weight.grad = None
        return result

    return step


def _eager(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy((hidden @ weight.t()).float(), labels, ignore_index=IGNORED)


def peers() -> Iterator[tuple[str, Callable[[], Callable[[Tensor, Tensor, Tensor], Tensor]]]]:
    """Names, and what imports each: it raises ImportError or AttributeError where a peer is not there."""
    yield "torch eager", lambda: _eager
    yield "torch.compile", lambda: torch.compile(_eager)
    yield "F.linear_cross_entropy", lambda: F.linear_cross_entropy

    def liger(accum_dtype: torch.dtype | None) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        return lambda hidden, weight, labels: liger_fused_linear_cross_entropy(
            hidden, weight, labels, ignore_index=IGNORED, accum_dtype=accum_dtype
        )

    yield "liger", lambda: liger(None)
    yield "liger, float32 sums", lambda: liger(torch.float32)

    def cce() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        from cut_cross_entropy import linear_cross_entropy

        return lambda hidden, weight, labels: linear_cross_entropy(hidden, weight, labels, ignore_index=IGNORED)

    yield "cut-cross-entropy", cce

    def trl() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
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


def milliseconds(step: Callable[[], object], steps: int = 10, warm_up_seconds: float = 0.4) -> list[float]:
    """Times of single steps, after two and at least so many seconds of warm-up."""
    if not ON_GPU:
        start = time.perf_counter()
        step()
        return [1e3 * (time.perf_counter() - start)]
    start, done = time.perf_counter(), 0
    while done < 2 or time.perf_counter() - start < warm_up_seconds:
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


def bare_products(inputs: Inputs) -> dict[str, float]:
    """Median times of the products that no step with full logits can do without, in milliseconds."""
    logits = inputs.hidden.new_empty(len(inputs.hidden), len(inputs.weight))
    grad_hidden, grad_weight = torch.empty_like(inputs.hidden), torch.empty_like(inputs.weight)
    torch.mm(inputs.hidden, inputs.weight.t(), out=logits)
    gradient = logits.div(1e3)

    def forward() -> None:
        torch.mm(inputs.hidden, inputs.weight.t(), out=logits)

    def frozen_head() -> None:
        forward()
        torch.mm(gradient, inputs.weight, out=grad_hidden)

    def both() -> None:
        frozen_head()
        torch.mm(gradient.t(), inputs.hidden, out=grad_weight)

    named = {"both": both, "forward": forward, "frozen head": frozen_head}
    return {name: statistics.median(milliseconds(products)) for name, products in named.items()}


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
    except Exception as error:  # a peer's failure is a line of the table
        found.failure = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"


def _error(found: Tensor | None, expected: Tensor) -> float | None:
    if found is None:
        return None
    return float((found.float() - expected).norm() / expected.norm())


def ours(inputs: Inputs) -> Iterator[tuple[str, str, Step]]:
    """Setting, name and step of every variant of this project."""
    size = inputs.weight.element_size()
    default = default_budget(len(inputs.weight), size) if ON_GPU else 48 * 4 * len(inputs.weight)
    lean = default // 2 if len(inputs.weight) > 200000 or not ON_GPU else 256 * MEGABYTE
    everything = len(inputs.hidden) * (len(inputs.weight) + 16) * size
    yield "both", "fusegen", fusegen_step(inputs, default)
    yield "both", "fusegen lean", fusegen_step(inputs, lean)
    yield "both", "fusegen exact", fusegen_step(inputs, default, exact=True)
    yield "both", "fusegen exact lean", fusegen_step(inputs, lean, exact=True)
    yield "both", "fusegen, half of the default", fusegen_step(inputs, default // 2)
    yield "both", "fusegen, full logits", fusegen_step(inputs, everything)
    yield "forward", "fusegen", fusegen_step(inputs, default, need=Need())
    yield "frozen head", "fusegen", fusegen_step(inputs, default, need=Need(hidden=True))


def benchmark(shape: tuple[int, int, int], without_peers: bool) -> Iterator[Measurement]:
    """All contenders at one shape; the first shape also with half of the labels ignored."""
    halves = (0.0, 0.5) if shape in (SHAPES[0], SMALL_SHAPES[0]) else (0.0,)
    floors: dict[str, float] = {}
    for ignored in halves:
        inputs = make_inputs(shape, ignored)
        before = bare_products(inputs)
        measured = []
        for setting, name, step in ours(inputs):
            if ignored and (setting, name) not in {("both", "fusegen"), ("both", "fusegen exact")}:
                continue
            measured.append(Measurement(shape, "half ignored" if ignored else setting, name))
            measure(measured[-1], inputs, step)
        for name, find in () if without_peers else peers():
            measured.append(Measurement(shape, "half ignored" if ignored else "both", name))
            try:
                step = autograd_step(inputs, find())
            except (ImportError, AttributeError, RuntimeError) as error:
                measured[-1].failure = f"not there: {str(error)[:200]}"
                continue
            measure(measured[-1], inputs, step)
            torch.compiler.reset()
        after = bare_products(inputs)
        floors = {name: (before[name] + after[name]) / 2 for name in before}
        for found in measured:
            found.floor_ms = floors["both" if found.setting == "half ignored" else found.setting]
            found.multiple = None if found.ms is None else found.ms / found.floor_ms
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


def table(measurements: list[dict[str, Any]]) -> str:
    """Markdown: a line per contender and setting."""
    lines = [
        "| N×H×V | setting | contender | ms | × floor | workspace MB | error dW | error dX | error loss |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for each in measurements:
        start = ["×".join(map(str, each["shape"])), each["setting"], each["contender"]]
        if each["failure"] is not None:
            lines.append(f"| {' | '.join(start)} | {each['failure']} ||||||")
            continue
        formats = ("ms", ".2f"), ("multiple", ".3f"), ("workspace_mb", ".0f")
        errors = tuple((f"{name}_error", ".2e") for name in ("grad_weight", "grad_hidden", "loss"))
        numbers = ["" if each[name] is None else format(each[name], how) for name, how in (*formats, *errors)]
        lines.append(f"| {' | '.join(start + numbers)} |")
    return "\n".join(lines)


def draw(measurements: list[dict[str, Any]], out: Path) -> None:
    """Two PNGs, a panel per shape: time against workspace, error of dW against workspace."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shapes = list(dict.fromkeys(tuple(each["shape"]) for each in measurements))
    names = list(dict.fromkeys(each["contender"] for each in measurements))
    for value, label, name in (
        ("multiple", "time, multiple of the three bare products", "time"),
        ("grad_weight_error", "relative error of dW", "error"),
    ):
        figure, panels = pyplot.subplots(1, len(shapes), figsize=(4.2 * len(shapes), 4.6), squeeze=False)
        for panel, shape in zip(panels[0], shapes, strict=True):
            panel.set(title="×".join(map(str, shape)), xlabel="workspace, MB", xscale="log", ylabel=label)
            for each in measurements:
                if tuple(each["shape"]) != shape or each["setting"] != "both" or each["failure"] is not None:
                    continue
                marker = "o" if each["contender"].startswith("fusegen") else "x"
                color = f"C{names.index(each['contender']) % 10}"
                panel.plot(max(1, each["workspace_mb"] or 0), each[value], marker, color=color, label=each["contender"])
            panel.grid(alpha=0.3)
        panels[0][0].legend(fontsize=7)
        figure.tight_layout()
        figure.savefig(out / f"linear_cross_entropy_{name}.png", dpi=110)
        pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the JSON and the PNGs")
    parser.add_argument("--table", type=Path, help="print the table of this JSON and stop")
    parser.add_argument("--shapes", type=int, nargs="*", help="indices of the shapes to run")
    parser.add_argument("--without-peers", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())["measurements"]))
        return
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
