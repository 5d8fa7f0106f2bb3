"""What the host costs: small micro-batches, where the device waits for Python.

    python benchmarks/small_batches.py [--out benchmarks/results/small_batches.json]

For each shape and contender: milliseconds a step back to back and with a synchronisation after each, as multiples of
the bare products; launches on the device and calls of torch's operators in a step; whether a step can be captured in a
CUDA graph (at the end). Needs a GPU. Medians of 30 steps after warm-up.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from linear_cross_entropy import Inputs, LossOf, Step, _eager, autograd_step, bare_products, make_inputs, versions
from torch.profiler import ProfilerActivity, profile

from fusegen.kernels import linear_cross_entropy

SHAPES = ((512, 2048, 32000), (2048, 4096, 32000), (4096, 4096, 32000), (1024, 2048, 128256))
STEPS = 30


@dataclass
class Measurement:
    """One contender at one shape; `products_ms` are the three bare products of the same minute."""

    shape: tuple[int, int, int]
    contender: str
    back_to_back_ms: float
    synchronised_ms: float
    products_ms: float
    launches: int
    operators: int

    def __str__(self) -> str:
        relative = f"{self.back_to_back_ms / self.products_ms:6.2f} {self.synchronised_ms / self.products_ms:6.2f}"
        times = f"{self.back_to_back_ms:8.3f} {self.synchronised_ms:8.3f}"
        shape = "x".join(map(str, self.shape))
        return f"{shape:18}{self.contender:20}{times} {relative} {self.launches:5} {self.operators:5}"


def contenders() -> Iterator[tuple[str, LossOf]]:
    yield "torch eager", _eager
    yield "torch.compile", torch.compile(_eager)
    yield "fusegen", linear_cross_entropy


def back_to_back(step: Callable[[], object]) -> float:
    """Milliseconds a step where the host may run ahead."""
    for _ in range(5):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start) / STEPS


def synchronised(step: Callable[[], object]) -> float:
    """Milliseconds a step where the host waits for each, as a training loop that reads its loss does."""
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def counted(step: Step) -> tuple[int, int]:
    """Launches on the device (copies and fills too), and operators that the host called."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        step()
        torch.cuda.synchronize()
    events = seen.events() or []
    on_device = sum(event.device_type == torch.autograd.DeviceType.CUDA for event in events)
    return on_device, sum(event.name.startswith(("aten::", "fusegen::")) for event in events)


def captured(step: Step) -> str:
    """Whether a step can be captured in a CUDA graph, or why not: a failure ends the work on this device."""
    try:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            step()
    except Exception as error:  # of whatever kind: it is the answer
        return f"no: {type(error).__name__} {str(error).splitlines()[0][:60]}"
    return "yes"


def measured(shape: tuple[int, int, int], name: str, loss_of: LossOf, inputs: Inputs) -> Measurement:
    step = autograd_step(inputs, loss_of)
    products_ms = back_to_back(bare_products(inputs, "both"))
    times = back_to_back(step), synchronised(step)
    return Measurement(shape, name, *times, products_ms, *counted(step))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the file for the JSON")
    arguments = parser.parse_args()
    found = []
    for shape in SHAPES:
        inputs = make_inputs(shape)
        for name, loss_of in contenders():
            found.append(measured(shape, name, loss_of, inputs))
            print(found[-1], flush=True)
    inputs = make_inputs(SHAPES[0])
    graphs = {name: captured(autograd_step(inputs, loss_of)) for name, loss_of in contenders()}
    print("captured in a CUDA graph:", graphs)
    if arguments.out:
        report = {"versions": versions(), "measurements": [asdict(each) for each in found], "captured": graphs}
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
