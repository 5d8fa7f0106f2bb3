"""A class is verified only if its comparison could have failed: operations that nothing exercises are said."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from fusegen.runtime import losses
from fusegen.verify import operations
from fusegen.verify.cases import CASES, PLAIN
from fusegen.verify.operations import CRITERION_KEYWORDS, OPERATIONS, TRANSFORM_KEYWORDS, Operand
from fusegen.verify.pool import in_own_processes
from fusegen.verify.proof import gaps, omissions
from fusegen.verify.records import (
    NOT_APPLICABLE,
    SAME,
    SKIPPED,
    UNPROVEN,
    VERIFIED,
    CheckResult,
    ClassResult,
    VerifyReport,
    class_outcome,
)
from fusegen.verify.worker import Task, verify_class

CAP = {"op": "soft_cap", "cap": "self.config.cap", "when": "self.config.cap is not None"}
QUICK = tuple(case for case in CASES if case.name in ("some ignored", "bf16"))


def _task(target, tree: Path, name: str, **changes: object) -> Task:
    return Task(replace(target(name), **changes), tree, QUICK)


def _verified(task: Task) -> ClassResult:
    (result,) = in_own_processes(verify_class, [task], timeout=120, name=str)
    return result


# -- what is said ----------------------------------------------------------------------------------------------


def test_nothing_is_missing_where_the_knob_was_turned_and_the_keyword_handed() -> None:
    assert list(gaps((CAP,), ("self.config.cap",), frozenset({"softcap"}))) == []


@pytest.mark.parametrize(
    ("chain", "turned", "handed", "said"),
    [
        pytest.param(({"op": "clamp", "limit": "3"},), (), (), "`clamp` has no line", id="operation without a line"),
        pytest.param((CAP,), (), ("softcap",), "could not be set far from neutral", id="knob that is stuck"),
        pytest.param((CAP,), ("self.config.cap",), (), "got no softcap=", id="operation that was never handed on"),
        pytest.param((), (), ("divisor",), "no operation of the chain explains it", id="keyword without an operation"),
    ],
)
def test_a_gap_is_said(chain, turned, handed, said: str) -> None:
    (sentence,) = gaps(chain, turned, frozenset(handed))
    assert said in sentence


def test_a_number_in_the_source_needs_no_knob() -> None:
    assert list(gaps(({"op": "soft_cap", "cap": "30.0"},), (), frozenset({"softcap"}))) == []


def test_a_scale_is_left_out_and_inverted() -> None:
    names = [each.name for each in omissions(({"op": "scale", "divide": "self.t"},), frozenset({"divisor"}))]
    assert names == ["scale", "scale, which is inverted,"]


# -- nothing is forgotten --------------------------------------------------------------------------------------


def test_every_keyword_of_the_adapters_is_one_whose_loss_is_noticed() -> None:
    data = {"hidden_states", "head", "labels", "vocab_size", "kwargs"}
    for adapter in (losses.causal_lm_loss, losses.masked_lm_loss, losses.cross_entropy_loss):
        assert set(inspect.signature(adapter).parameters) <= data | TRANSFORM_KEYWORDS | CRITERION_KEYWORDS


def test_every_operation_that_is_read_has_a_line() -> None:
    from fusegen.codegen import logit_ops

    files = {path.stem for path in Path(logit_ops.__file__).parent.glob("*.py")} - {"__init__", "step"}
    # `layout` moves and views, which is no operation; a mask is refused by the scan.
    assert files - {"layout", "mask"} == set(OPERATIONS)


# -- real classes ----------------------------------------------------------------------------------------------


def test_a_class_whose_operations_all_show_is_verified(target, generated: Path) -> None:
    assert _verified(_task(target, generated, "CohereForCausalLM")).outcome == VERIFIED


def test_an_operation_without_a_line_is_not_verified(target, generated: Path, monkeypatch) -> None:
    monkeypatch.delitem(operations.OPERATIONS, "scale")
    result = _verified(_task(target, generated, "CohereForCausalLM"))
    assert result.outcome == UNPROVEN
    assert "`scale` has no line" in result.reason


def test_a_knob_that_is_left_neutral_is_not_verified(target, generated: Path, monkeypatch) -> None:
    monkeypatch.setitem(operations.OPERATIONS["scale"], "multiply", Operand(("scale",), far=1.0, inverse="divisor"))
    result = _verified(_task(target, generated, "CohereForCausalLM"))
    assert result.outcome == UNPROVEN
    assert "does not notice a fused call without scale" in result.reason


def test_an_operation_that_the_call_does_not_hand_on_is_not_verified(target, generated: Path) -> None:
    result = _verified(_task(target, generated, "LlamaForCausalLM", chain=(CAP | {"cap": "30.0"},)))
    assert result.outcome == UNPROVEN
    assert "got no softcap=" in result.reason


def test_a_skipped_check_is_not_verified(target, generated: Path, monkeypatch) -> None:
    def unbuildable(*arguments: object, **keywords: object) -> object:
        if keywords.get("flip_tying"):
            raise ValueError("no such model")
        return tiny_model(*arguments, **keywords)

    from fusegen.verify import worker

    tiny_model = worker.tiny_model
    monkeypatch.setattr(worker, "tiny_model", unbuildable)
    cases = tuple(case for case in CASES if case.build == PLAIN)[:1] + tuple(
        case for case in CASES if case.name == "flipped tying"
    )
    result = _verified(Task(target("LlamaForCausalLM"), generated, cases))
    assert result.outcome == UNPROVEN
    assert "the check flipped tying was skipped: cannot be built so: ValueError: no such model" in result.reason


def test_what_is_unproven_fails_the_run() -> None:
    checks = (CheckResult("some ignored", SAME), CheckResult("flipped tying", SKIPPED))
    assert class_outcome(checks) == UNPROVEN
    assert VerifyReport("5.24.0", (), (ClassResult("a.A", UNPROVEN, checks),)).failed


def test_a_check_that_a_class_knows_nothing_of_is_no_gap(target, generated: Path) -> None:
    cases = tuple(case for case in CASES if case.name in ("some ignored", "flipped tying"))
    result = _verified(Task(target("Inkling2ForCausalLM"), generated, cases))
    assert result.outcome == VERIFIED
    assert [check.outcome for check in result.checks] == [SAME, NOT_APPLICABLE]
