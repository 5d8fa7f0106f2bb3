"""Compares one class, in a process of its own: every original first, while nothing has ever been patched here.

The fused branch is proved to have run by counting the calls that the generated module makes to its loss.
"""

from __future__ import annotations

import inspect
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from fusegen.runtime import InstallReport, coverage, install
from fusegen.runtime.outcomes import GIVEN
from fusegen.verify.cases import FLIPPED_TYING, KNOBS_OFF, PLAIN, Case
from fusegen.verify.comparison import LOGITS, compare
from fusegen.verify.losses import editing, watch
from fusegen.verify.proof import Omission, gaps, unnoticed
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
    SKIPPED,
    UNPROVEN,
    VERIFIED,
    CheckResult,
    ClassResult,
    Reach,
    class_outcome,
)
from fusegen.verify.running import Raised, Ran, raised, run
from fusegen.verify.targets import Target, module_path
from fusegen.verify.tiny_inputs import Batch
from fusegen.verify.tiny_models import NotApplicable, TinyModel, tiny_model

Breakage = Callable[[type], None]

_NO_KNOB_OFF = "no knob of the chain can be off"


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


@dataclass(frozen=True, slots=True)
class _NotRun:
    """A case that makes no sense for the class (`not applicable`), or that could not be made (`skipped`)."""

    outcome: str
    detail: str


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
    plain = _check(cases[0], originals[cases[0].name], builds, calls, task)
    handed = frozenset[str]().union(*calls)
    checks = (plain, *(_check(case, originals[case.name], builds, calls, task) for case in cases[1:]))
    outcome, doubts = class_outcome(checks), tuple(_skipped(checks))
    if outcome == VERIFIED:
        doubts += tuple(_doubts(task, originals, builds, handed))
        outcome = UNPROVEN if doubts else VERIFIED
    reach_of_class = _reach(builds[PLAIN], originals.values())
    return ClassResult(task.target.id, outcome, checks, reach_of_class, reason="; ".join(dict.fromkeys(doubts)))


def _skipped(checks: tuple[CheckResult, ...]) -> Iterator[str]:
    for check in checks:
        if check.outcome == SKIPPED:
            yield f"the check {check.check} was skipped: {check.detail}"


def _doubts(
    task: Task, originals: dict[str, _Original | _NotRun], builds: _Builds, handed: frozenset[str]
) -> Iterator[str]:
    """What the checks cannot have shown about the chain; `handed` is what the loss of the plain step got."""
    tiny, chain = builds[PLAIN], task.target.chain
    assert isinstance(tiny, TinyModel)
    yield from gaps(chain, tiny.turned, handed)

    def notices(omission: Omission) -> bool:
        return any(
            _notices(case, originals[case.name], tiny, omission, task) for case in task.cases[:1] + _coarse(task)
        )

    yield from unnoticed(chain, handed, notices)


def _coarse(task: Task) -> tuple[Case, ...]:
    """The check in which a cast shows: in float32 it is none."""
    return tuple(case for case in task.cases if case.weights == torch.bfloat16)


def _notices(case: Case, original: _Original | _NotRun, tiny: TinyModel, omission: Omission, task: Task) -> bool:
    if isinstance(original, _NotRun) or isinstance(original.answer, Raised):
        return False
    with editing(_installed(task.target), omission.edit):
        patched = run(case, tiny.model, original.inputs)
    return compare(case, original.answer, patched, original.reference, fused=True).outcome == DIFFERENT


def _reach(plain: TinyModel | Raised, originals: Iterable[_Original | _NotRun]) -> Reach:
    assert isinstance(plain, TinyModel)
    answers = (each.answer for each in originals if isinstance(each, _Original))
    return reach(plain, [answer for answer in answers if isinstance(answer, Ran)])


def _trouble(case: Case, first: _Original | _NotRun, plain: TinyModel | Raised, repeat: bool) -> str | None:
    """Why there is nothing to compare with: the original cannot be built or run, or does not repeat itself."""
    if isinstance(plain, Raised):
        return str(plain)
    if isinstance(first, _NotRun):
        return first.detail
    if isinstance(first.answer, Raised):
        return str(first.answer)
    again = run(case, plain.model, first.inputs) if repeat else first.answer
    same = compare(case, first.answer, again, None, fused=False).outcome == SAME
    return None if same else "the original gives another result at each call"


def _is_original(target: Target) -> bool:
    """Whether the method comes from its own file: `functools.wraps` can copy a name, but not the code."""
    return _installed(target).__code__.co_filename == import_module(target.source_module).__file__


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


def _original(case: Case, task: Task, builds: _Builds) -> _Original | _NotRun:
    """What the original answers, or why it is not asked."""
    if case.build == KNOBS_OFF and not any("is not None" in step.get("when", "") for step in task.target.chain):
        return _NotRun(NOT_APPLICABLE, _NO_KNOB_OFF)
    if case.compiled and task.target.class_name not in compiled_classes():
        return _NotRun(NOT_APPLICABLE, "not in the sample of families that is compiled")
    tiny = builds[case.build]
    if isinstance(tiny, Raised):
        outcome = NOT_APPLICABLE if tiny.type == NotApplicable.__name__ else SKIPPED
        return _NotRun(outcome, f"cannot be built so: {tiny}")
    if case.build == KNOBS_OFF and not tiny.turned:
        return _NotRun(NOT_APPLICABLE, _NO_KNOB_OFF)
    if case.checkpointing and not getattr(tiny.model, "supports_gradient_checkpointing", False):
        return _NotRun(NOT_APPLICABLE, "the original has no gradient checkpointing")
    inputs = _inputs(case, tiny.batch)
    if inputs is None:
        return _NotRun(NOT_APPLICABLE, "the forward takes no labels of that name and shape")
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


def _watched_losses(task: Task) -> list[frozenset[str]]:
    """The list to which each call of a loss in the class's generated forward is added from now on."""
    if task.breakage is not None:
        task.breakage(_owner(task.target))
    return watch(_installed(task.target))


def _installed(target: Target) -> Callable[..., Any]:
    """The generated forward, without what it is under."""
    return inspect.unwrap(vars(_owner(target))[target.method])


def _owner(target: Target) -> Any:
    return getattr(import_module(target.source_module), target.class_name)


def _check(
    case: Case, original: _Original | _NotRun, builds: _Builds, calls: list[frozenset[str]], task: Task
) -> CheckResult:
    if isinstance(original, _NotRun):
        return CheckResult(case.name, original.outcome, detail=original.detail)
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
