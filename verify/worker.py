"""Compares one class, in a process of its own: every original first, while nothing has ever been patched here.

The fused branch is proved to have run by counting the calls that the generated module makes to its loss.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import CellType
from typing import Any

import torch

from fusegen.runtime import InstallReport, coverage, install
from fusegen.runtime.outcomes import GIVEN
from fusegen.verify.cases import FLIPPED_TYING, KNOBS_OFF, PLAIN, Case
from fusegen.verify.comparison import LOGITS, compare
from fusegen.verify.reach import reach
from fusegen.verify.recipes import compiled_classes
from fusegen.verify.records import (
    DIFFERENT,
    FAILED,
    NOT_APPLICABLE,
    NOT_BUILT,
    NOT_EMITTED,
    NOT_FUSED,
    SAME,
    CheckResult,
    ClassResult,
    Reach,
    class_outcome,
)
from fusegen.verify.running import Raised, Ran, raised, run
from fusegen.verify.targets import Target, module_path
from fusegen.verify.tiny_inputs import Batch
from fusegen.verify.tiny_models import TinyModel, tiny_model

LOSSES = "fusegen.runtime.losses"
Breakage = Callable[[type], None]


@dataclass(frozen=True, slots=True)
class Task:
    """A class, where its generated module is, and the checks. `references`: also run every original in float64."""

    target: Target
    generated: Path
    cases: tuple[Case, ...]
    references: bool = False
    breakage: Breakage | None = None


@dataclass(frozen=True, slots=True)
class _Original:
    """The original's answer to a case, and what is needed to ask the patched forward the same.

    `remark`: in what the inputs differ from what the case asks for.
    """

    answer: Ran | Raised
    reference: Ran | Raised | None
    inputs: dict[str, Any]
    remark: str = ""


def verify_class(task: Task) -> ClassResult:
    """The result for one class. To be called once in a process, in which no forward has been patched before."""
    start = time.process_time()
    try:
        result = _verified(task)
    except Exception as error:
        result = ClassResult(task.target.id, FAILED, reason=f"internal error, please report it: {raised(error)}")
    return replace(result, cpu_seconds=time.process_time() - start)


def _verified(task: Task) -> ClassResult:
    _be_quiet()
    builds = _Builds(task.target)
    cases = task.cases if task.target.emitted else task.cases[:1]
    originals = {case.name: _original(case, task, builds) for case in cases}
    if not _is_original(task.target):
        return ClassResult(task.target.id, FAILED, reason="its forward had been patched before the comparison began")
    trouble = _trouble(cases[0], originals[cases[0].name], builds[PLAIN], repeat=task.references)
    if trouble is not None:
        return ClassResult(task.target.id, NOT_BUILT, reason=trouble)
    if not task.target.emitted:
        return ClassResult(task.target.id, NOT_EMITTED, reason="the original builds and trains")
    report = install(task.generated, fuse="training")
    if report.tiers.get(task.target.name) != GIVEN:
        return ClassResult(task.target.id, FAILED, reason=_why_not_installed(report, task))
    calls = _watched_losses(task)
    checks = tuple(_check(case, originals[case.name], builds, calls, task) for case in cases)
    return ClassResult(task.target.id, class_outcome(checks), checks, _reach(builds[PLAIN], originals.values()))


def _reach(plain: TinyModel | Raised, originals: Iterable[_Original | str]) -> Reach:
    assert isinstance(plain, TinyModel)
    answers = (each.answer for each in originals if isinstance(each, _Original))
    return reach(plain, [answer for answer in answers if isinstance(answer, Ran)])


def _trouble(case: Case, first: _Original | str, plain: TinyModel | Raised, repeat: bool) -> str | None:
    """Why there is nothing to compare with: the original cannot be built or run, or does not repeat itself."""
    if isinstance(plain, Raised) or isinstance(first, str):
        return str(plain) if isinstance(plain, Raised) else str(first)
    if isinstance(first.answer, Raised):
        return str(first.answer)
    again = run(case, plain.model, first.inputs) if repeat else first.answer
    same = compare(case, first.answer, again, None, fused=False).outcome == SAME
    return None if same else "the original gives another result at each call"


def _is_original(target: Target) -> bool:
    """Whether the method comes from its own file: `functools.wraps` can copy a name, but not the code."""
    module = import_module(target.source_module)
    forward = inspect.unwrap(vars(getattr(module, target.class_name))[target.method])
    return forward.__code__.co_filename == module.__file__


def _be_quiet() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)


class _Builds(dict[str, "TinyModel | Raised"]):
    """The models of a class, by the way in which they are built, made on demand."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target

    def __missing__(self, build: str) -> TinyModel | Raised:
        try:
            self[build] = tiny_model(self._target, knobs=build != KNOBS_OFF, flip_tying=build == FLIPPED_TYING)
        except Exception as error:
            self[build] = raised(error)
        return self[build]


def _original(case: Case, task: Task, builds: _Builds) -> _Original | str:
    """What the original answers, or why the case does not apply."""
    if case.build == KNOBS_OFF and not any("is not None" in step.get("when", "") for step in task.target.chain):
        return "no knob of the chain can be off"
    if case.compiled and task.target.class_name not in compiled_classes():
        return "not in the sample of families that is compiled"
    tiny = builds[case.build]
    if isinstance(tiny, Raised):
        return f"cannot be built so: {tiny}"
    if case.checkpointing and not getattr(tiny.model, "supports_gradient_checkpointing", False):
        return "the original has no gradient checkpointing"
    inputs = _inputs(case, tiny.batch)
    if inputs is None:
        return "the forward takes no labels of that name and shape"
    answer = run(case, tiny.model, inputs)
    text = _inputs(case, tiny.batch.text) if isinstance(answer, Raised) and tiny.batch.text else None
    if text is not None and isinstance(again := run(case, tiny.model, text), Ran):
        return _answered(case, task, tiny, again, text, remark=f"on text alone, for with media {answer}")
    return _answered(case, task, tiny, answer, inputs)


def _inputs(case: Case, batch: Batch) -> dict[str, Any] | None:
    inputs = case.edit(dict(batch.first_row if case.first_row else batch.inputs))
    return None if inputs is None or (case.smoothing and "labels" not in inputs) else inputs


def _answered(
    case: Case, task: Task, tiny: TinyModel, answer: Ran | Raised, inputs: dict[str, Any], remark: str = ""
) -> _Original:
    finer = torch.float64 if case.precision == torch.float32 else torch.float32
    wanted = isinstance(answer, Ran) and (task.references or finer == torch.float32)
    return _Original(answer, run(case, tiny.model, inputs, finer) if wanted else None, inputs, remark)


def _why_not_installed(report: InstallReport, task: Task) -> str:
    reasons = [each.reason for each in report.refused if each.name == task.target.name]
    return f"{module_path(task.generated, task.target)}: {reasons[0] if reasons else 'install did not use it'}"


def _watched_losses(task: Task) -> list[str]:
    """The list to which each call of a loss in the class's generated forward is added from now on."""
    calls: list[str] = []
    owner = getattr(import_module(task.target.source_module), task.target.class_name)
    if task.breakage is not None:
        task.breakage(owner)
    for cell in losses_of(inspect.unwrap(vars(owner)[task.target.method])):
        cell.cell_contents = _counted(cell.cell_contents, calls)
    return calls


def losses_of(forward: Callable[..., Any]) -> list[CellType]:
    """The cells in which an installed forward holds the losses of the runtime."""
    cells = getattr(forward, "__closure__", None) or ()
    return [cell for cell in cells if getattr(cell.cell_contents, "__module__", None) == LOSSES]


def _counted(function: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    @functools.wraps(function)
    def count(*arguments: Any, **keywords: Any) -> Any:
        if not torch.compiler.is_compiling():
            calls.append(function.__name__)
        return function(*arguments, **keywords)

    return count


def _check(case: Case, original: _Original | str, builds: _Builds, calls: list[str], task: Task) -> CheckResult:
    if isinstance(original, str):
        return CheckResult(case.name, NOT_APPLICABLE, detail=original)
    tiny = builds[case.build]
    assert isinstance(tiny, TinyModel)
    before, counted = len(calls), dict(_coverage(task.target))
    patched = run(case, tiny.model, original.inputs)
    ran = len(calls) > before or (case.compiled and _left_logits_out(original.answer, patched))
    result = replace(compare(case, original.answer, patched, original.reference, ran), detail=original.remark)
    if result.outcome != SAME or ran == case.fused:
        return result
    if not case.fused:
        return replace(result, outcome=DIFFERENT, quantity="path", original="logits are computed", patched="fused")
    codes = [code for code, number in _coverage(task.target).items() if number > counted.get(code, 0)]
    if case.refusals is None or set(codes) & set(case.refusals):
        return replace(result, detail=f"not fused: {', '.join(codes)}")
    return replace(result, outcome=NOT_FUSED, detail=_why_not_fused(codes))


def _left_logits_out(original: Ran | Raised, patched: Ran | Raised) -> bool:
    """Whether the output shows that no logits were computed: calls are not counted while a graph is traced."""
    forms = [each.form if isinstance(each, Ran) else () for each in (original, patched)]
    return any(name.endswith(LOGITS) and name not in forms[1] for name in forms[0])


def _coverage(target: Target) -> dict[str, int]:
    return coverage().get(f"{target.source_module}.{target.class_name}", {})


def _why_not_fused(codes: list[str]) -> str:
    refused = [code for code in codes if code != "fused"]
    if refused:
        return f"refused by a guard of the runtime: {', '.join(refused)}"
    return "refused by a guard of the generated forward" if codes else "the forward did not ask whether to fuse"
