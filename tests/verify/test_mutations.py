"""A deliberately wrong rewrite must be caught: each mutation on each of its classes, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusegen.verify.cases import CASES
from fusegen.verify.mutations import MUTATIONS
from fusegen.verify.pool import in_own_processes
from fusegen.verify.records import DIFFERENT, VERIFIED, ClassResult
from fusegen.verify.verification import load_shared
from fusegen.verify.worker import Task, verify_class

QUICK = tuple(case for case in CASES if case.name in ("some ignored", "num_items int"))
PAIRS = [(mutation, name) for mutation in MUTATIONS for name in mutation.classes]


@pytest.fixture(scope="module")
def results(generated: Path, copy_models) -> dict[str, ClassResult]:
    """What comes of each class without a mutation, and of each mutation on each of its classes."""
    from fusegen.verify.targets import read_targets

    def key(task: Task) -> str:
        return f"{task.breakage.name if task.breakage else 'unbroken'}: {task.target.class_name}"

    def verified(task: Task) -> tuple[str, ClassResult]:
        return key(task), verify_class(task)

    load_shared()
    names = sorted({name for _, name in PAIRS})
    targets = {name: read_targets(generated, (name,))[0] for name in names}
    tree = copy_models({each.model for each in targets.values()})
    tasks = [Task(targets[name], tree, QUICK) for name in names]
    tasks += [Task(targets[name], tree, QUICK, breakage=mutation) for mutation, name in PAIRS]
    return dict(in_own_processes(verified, tasks, timeout=120, name=key))


@pytest.mark.parametrize("name", sorted({name for _, name in PAIRS}))
def test_without_a_mutation_nothing_differs(name: str, results) -> None:
    assert results[f"unbroken: {name}"].outcome == VERIFIED


@pytest.mark.parametrize(("mutation", "name"), [pytest.param(*pair, id=f"{pair[0].name}: {pair[1]}") for pair in PAIRS])
def test_a_wrong_rewrite_is_caught(mutation, name: str, results) -> None:
    result = results[f"{mutation.name}: {name}"]
    assert result.outcome == DIFFERENT
    assert all(check.error is None or check.error > 10 * check.tolerance for check in result.differences)
