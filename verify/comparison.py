"""Whether a patched call gave what the original gives, and by how much they are apart.

Float32: a relative error of 1e-5, or twice the error that the original itself has against float64. Coarser
dtypes: the dtype's own resolution, or twice the original's error against float32. A gradient that is zero but for
rounding (of a key's bias, say) has no relative error: what is below the resolution of all gradients together is noise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fusegen.verify.cases import Case
from fusegen.verify.records import DIFFERENT, RAISES, SAME, CheckResult
from fusegen.verify.running import Raised, Ran

FLOAT32_TOLERANCE = 1e-5
OF_THE_ORIGINALS_ERROR = 2.0
COARSE_NOISE = 1 / 16
LOGITS = "logits"


@dataclass(frozen=True, slots=True)
class _Apart:
    """How far one quantity is apart, and how far it may be."""

    quantity: str
    error: float
    tolerance: float
    original: str
    patched: str

    @property
    def excess(self) -> float:
        if self.error <= self.tolerance:
            return self.error / self.tolerance if self.tolerance and self.tolerance < float("inf") else 0.0
        return self.error / self.tolerance if self.tolerance else float("inf")


def compare(
    case: Case, original: Ran | Raised, patched: Ran | Raised, reference: Ran | Raised | None, fused: bool
) -> CheckResult:
    """The result of a check; `reference` is the original in a finer dtype, `fused` whether the fused branch ran."""
    if isinstance(original, Raised) or isinstance(patched, Raised):
        return _compare_exceptions(case, original, patched)
    if not _has_the_form(patched.form, original.form, fused):
        forms = map(", ".join, (original.form, patched.form))
        return CheckResult(case.name, DIFFERENT, "output", None, None, *forms)
    if original.loss.dtype != patched.loss.dtype:
        kinds = str(original.loss.dtype), str(patched.loss.dtype)
        return CheckResult(case.name, DIFFERENT, "dtype of the loss", None, None, *kinds)
    finer = reference if isinstance(reference, Ran) else None
    worst = max(_quantities(case, original, patched, finer), key=lambda apart: apart.excess)
    outcome = SAME if worst.excess <= 1 else DIFFERENT
    return CheckResult(case.name, outcome, worst.quantity, worst.error, worst.tolerance, worst.original, worst.patched)


def _compare_exceptions(case: Case, original: Ran | Raised, patched: Ran | Raised) -> CheckResult:
    if isinstance(original, Raised) and isinstance(patched, Raised) and _says(original) == _says(patched):
        return CheckResult(case.name, RAISES, "exception", None, None, str(original), str(patched))
    shown = [str(each) if isinstance(each, Raised) else f"loss {float(each.loss):.7g}" for each in (original, patched)]
    return CheckResult(case.name, DIFFERENT, "exception", None, None, *shown)


def _says(exception: Raised) -> tuple[str, str]:
    """An exception without what differs from run to run: addresses, and the name of the function that was called."""
    return exception.type, re.sub(r"0x[0-9a-f]+|[\w.]+(?=\(\))", "", exception.message)


def _has_the_form(patched: tuple[str, ...], original: tuple[str, ...], fused: bool) -> bool:
    """Whether an output is of the original's type with the same parts in the same order.

    Fused, logits may be None: a `ModelOutput` then leaves them out, a tuple keeps their place. The loss stays.
    """
    if not fused:
        return patched == original
    if original[0] == "tuple":
        same_place = [
            ours == theirs or (ours, theirs) == ("NoneType", "Tensor")
            for ours, theirs in zip(patched, original, strict=False)
        ]
        return len(patched) == len(original) and all(same_place)
    kept = [name for name in original if name in patched or not name.endswith(LOGITS)]
    return list(patched) == kept


def _quantities(case: Case, original: Ran, patched: Ran, finer: Ran | None) -> Iterator[_Apart]:
    yield _apart(case, "loss", original.loss, patched.loss, finer.loss if finer else None)
    for name, tensor in original.tensors.items():
        if name in patched.tensors and original.form[0] != "tuple":
            yield _apart(case, name, tensor, patched.tensors[name], finer.tensors.get(name) if finer else None)
    noise = _noise(case, original)
    for name, gradient in original.gradients.items():
        ours = patched.gradients.get(name)
        if gradient is None or ours is None:
            if gradient is not ours:
                kinds = ("no gradient" if each is None else "a gradient" for each in (gradient, ours))
                yield _Apart(f"gradient of {name}", float("inf"), 0.0, *kinds)
            continue
        yield _apart(case, f"gradient of {name}", gradient, ours, finer.gradients.get(name) if finer else None, noise)


def _noise(case: Case, original: Ran) -> float:
    """The size below which a gradient is rounding: the resolution of float32 (a part of a coarser one) of them all."""
    norms = [
        float(gradient.double().nan_to_num().norm()) for gradient in original.gradients.values() if gradient is not None
    ]
    resolution = torch.finfo(case.precision).eps * (1 if case.precision == torch.float32 else COARSE_NOISE)
    return resolution * math.hypot(*norms)


def _apart(
    case: Case, quantity: str, original: Tensor, patched: Tensor, finer: Tensor | None, noise: float = 0.0
) -> _Apart:
    if original.shape != patched.shape or original.dtype != patched.dtype:
        shapes = (f"{tuple(each.shape)} {each.dtype}" for each in (original, patched))
        return _Apart(quantity, float("inf"), 0.0, *shapes)
    floor = FLOAT32_TOLERANCE if case.precision == torch.float32 else torch.finfo(case.precision).eps
    error, tolerance = relative_error(patched, original, noise), floor
    if error > floor and finer is not None and finer.shape == original.shape:
        error = relative_error(patched, finer, noise)
        tolerance = max(floor, OF_THE_ORIGINALS_ERROR * relative_error(original, finer))
    return _Apart(quantity, error, tolerance, _number(original), _number(patched))


def relative_error(tensor: Tensor, truth: Tensor, noise: float = 0.0) -> float:
    """The norm of the difference over the norm of `truth`; a difference of at most `noise` is none.

    NaN equals NaN; the error is infinite where only one of the two is finite.
    """
    ours, theirs = tensor.double(), truth.double()
    if not torch.equal(ours.isfinite(), theirs.isfinite()) or not torch.equal(ours.isnan(), theirs.isnan()):
        return float("inf")
    finite = theirs.isfinite()
    difference = float((ours[finite] - theirs[finite]).norm())
    size = float(theirs[finite].norm())
    if difference <= noise:
        return 0.0
    return difference / size if size else float("inf")


def _number(tensor: Tensor) -> str:
    if tensor.numel() == 1:
        return f"{float(tensor):.9g}"
    return f"norm {float(tensor.double().norm()):.9g}"
