"""The run as a whole: every class in its own process, again with references where float32 alone cannot tell."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fusegen.verify.cases import chosen_cases
from fusegen.verify.generated_lines import generated_lines
from fusegen.verify.pool import Died, Progress, in_own_processes
from fusegen.verify.records import DIFFERENT, FAILED, NOT_BUILT, STALE, ClassResult, VerifyReport
from fusegen.verify.staleness import stale_modules
from fusegen.verify.targets import Target
from fusegen.verify.worker import Task, verify_class

TIMEOUT_SECONDS = 120.0

# What nearly every modeling module imports.
_SHARED = (
    "transformers.models.auto.modeling_auto",
    "transformers.modeling_layers",
    "transformers.masking_utils",
    "transformers.generation",
    "transformers.loss.loss_utils",
    "transformers.trainer_pt_utils",
)


def verify(
    targets: tuple[Target, ...],
    generated: Path,
    *,
    checks: str = "core",
    jobs: int | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Compares every target with its original. `checks`: core or all; `progress(done, total, running)`.

    Raises:
        TargetError: the tree is of a schema or for a kernel interface that this fusegen does not have.
    """
    import transformers

    stale = stale_modules(generated)
    load_shared()
    start = time.monotonic()
    cases = chosen_cases(checks)
    tasks = [Task(each, generated.resolve(), cases) for each in targets if each.source_module not in stale]
    results = {each.id: ClassResult(each.id, STALE, reason=stale.get(each.source_module, "")) for each in targets}
    results |= {result.id: result for result in _results(tasks, jobs, progress)}
    doubtful = [replace(task, references=True) for task in tasks if _is_doubtful(results[task.target.id])]
    results |= {result.id: result for result in _results(doubtful, jobs, progress)}
    by_id = {target.id: target for target in targets}
    return VerifyReport(
        version=transformers.__version__,
        checks=tuple(case.name for case in cases),
        classes=tuple(
            _finished(results[name], by_id[name], generated, transformers.__version__) for name in sorted(results)
        ),
        wall_seconds=time.monotonic() - start,
    )


def load_shared() -> None:
    """Imports here what every process would have to import for itself; no model among it."""
    for module in _SHARED:
        importlib.import_module(module)


def _results(tasks: list[Task], jobs: int | None, progress: Progress | None) -> Iterable[ClassResult]:
    outcomes = in_own_processes(
        verify_class,
        tasks,
        jobs=jobs,
        timeout=TIMEOUT_SECONDS,
        name=lambda task: task.target.class_name,
        progress=progress,
    )
    for outcome in outcomes:
        if isinstance(outcome, Died):
            yield ClassResult(outcome.task.target.id, FAILED, reason=outcome.reason)
        else:
            yield outcome


def _is_doubtful(result: ClassResult) -> bool:
    """Whether float64 may excuse a difference: an error that is a number."""
    return any(check.error is not None and check.error < float("inf") for check in result.differences)


def _finished(result: ClassResult, target: Target, generated: Path, version: str) -> ClassResult:
    """The result with the lines that differ; what was built when its verdict was recorded has to build again."""
    if result.outcome == DIFFERENT:
        return replace(result, lines=generated_lines(generated, target))
    if result.outcome == NOT_BUILT and target.verified_for == version:
        return replace(result, outcome=FAILED, reason=f"recorded as verified, and cannot be built now: {result.reason}")
    return result
