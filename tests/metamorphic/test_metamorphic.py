"""Rewritten forwards do what fusegen makes of them: 2,000 in CI, the same in every run; the seed is printed.

`python benchmarks/metamorphic.py --seed SEED --sources 60 --only NUMBER` shows one;
FUSEGEN_REWRITES="2000 SEED" sets their number and their seed.
"""

from __future__ import annotations

import ast
import os
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

import harness
from harness import GOOD, base, counted, draft, judge, judged, pool, verdict
from rewrite_draft import insert
from stubs import Setting, World

from fusegen.codegen import emit
from fusegen.runtime import losses

SOURCES = 60
SEED = 905035
Outcome = Callable[..., str]


def test_rewritten_forwards_do_what_fusegen_makes_of_them() -> None:
    default = f"{2000 if os.environ.get('CI') else 120} {SEED}"
    count, seed = map(int, os.environ.get("FUSEGEN_REWRITES", default).split())
    print(f"seed {seed}")
    outcomes = list(judge(seed, count, SOURCES, os.cpu_count() or 1))
    print(counted(outcomes))
    wrong = [
        f"--seed {seed} --sources {SOURCES} --only {each.number}: {each.verdict} {each.source}, {each.did}: {each.what}"
        for each in outcomes
        if each.verdict not in GOOD
    ]
    assert not wrong, "\n".join(wrong)
    assert sum(each.verdict == "equal" for each in outcomes) > count / 5, "most rewrites are refused"
    assert len({each.source for each in outcomes}) > 0.5 * min(count, len(pool(seed, SOURCES))), (
        "most sources do not run"
    )


def test_a_rewrite_depends_on_its_seed_and_number_alone() -> None:
    names = pool(1, 5)
    first = verdict(1, 3, names)
    verdict(2, 8, names)
    assert verdict(1, 3, names) == first


class TestPlantedFaults:
    """The harness can fail."""

    @pytest.fixture
    def outcome(self) -> Callable[[str, str], str]:
        """The verdict on a case with one more statement right before its loss."""
        sources = {name: base(f"case {name}") for name in ("plain", "z_loss_under_config", "scale_multiply_attribute")}

        def judge_one(case: str, statement: str = "pass", settings: list[Setting] | None = None) -> str:
            found = sources[case]
            assert not isinstance(found, str), found
            rewritten = draft(found, random.Random(0))
            insert(rewritten, statement, "inside")
            return judged(found, ast.unparse(ast.fix_missing_locations(rewritten.module)), settings)[0]

        return judge_one

    def test_a_guard_that_is_not_written(self, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
        guarded = "z_loss_under_config", "pass", [Setting({"z_loss_coefficient": 1})]
        assert outcome(*guarded) == "unfused"
        written = harness.emission

        def without_guards(world: World) -> Any:
            found = written(world)
            return replace(found, text=found.text.replace("where=lambda: ", "where=lambda: True or "))

        monkeypatch.setattr(harness, "emission", without_guards)
        assert outcome(*guarded) == "crash"  # the logits of the z-loss are None

    def test_an_operation_that_the_loss_leaves_out(self, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
        fused = losses.linear_cross_entropy
        assert outcome("scale_multiply_attribute") == "equal"
        monkeypatch.setattr(losses, "linear_cross_entropy", lambda *a, **k: fused(*a, **k | {"scale": None}))
        assert outcome("scale_multiply_attribute") == "wrong"

    def test_a_gradient_that_is_lost(self, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
        fused = losses.linear_cross_entropy
        monkeypatch.setattr(losses, "linear_cross_entropy", lambda h, w, *a, **k: fused(h, w.detach(), *a, **k))
        assert outcome("plain") == "wrong"

    def test_a_loss_that_raises_only_when_fused(self, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(losses, "linear_cross_entropy", lambda *a, **k: 1 / 0)
        assert outcome("plain") == "crash"

    def test_an_error_of_the_generator(self, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(emit, "plan", lambda site, analysis: 1 / 0)
        assert outcome("scale_multiply_attribute") == "crash"
