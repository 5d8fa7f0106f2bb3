"""What the comparison of one class refuses to prove: an original that is not one, or that does not repeat itself."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import nn

from fusegen.verify.cases import CASES
from fusegen.verify.pool import in_own_processes
from fusegen.verify.records import FAILED, SAME, ClassResult
from fusegen.verify.running import Ran, run
from fusegen.verify.tiny_inputs import Batch
from fusegen.verify.tiny_models import TinyModel
from fusegen.verify.worker import Task, _Original, _trouble, verify_class

PLAIN_CASE = CASES[0]


def _verified_after_an_install(task: Task) -> ClassResult:
    from fusegen.runtime import install

    install(task.generated)
    return verify_class(task)


def test_a_forward_that_was_patched_before_is_no_original(target, tree: Path) -> None:
    task = Task(target("OPTForCausalLM"), tree, (PLAIN_CASE,))
    (result,) = in_own_processes(_verified_after_an_install, [task], timeout=120, name=str)
    assert result.outcome == FAILED
    assert result.reason == "its forward had been patched before the comparison began"


@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param("GPT2LMHeadModel", "compile", id="a model that warns about its loss"),
        pytest.param("VisualBertForPreTraining", "compile", id="logits of another name"),
        pytest.param("WhisperForConditionalGeneration", "label smoother", id="inputs of a decoder"),
    ],
)
def test_a_check_compares_instead_of_raising_on_both_sides(name: str, check: str, target, generated: Path) -> None:
    cases = tuple(case for case in CASES if case is PLAIN_CASE or case.name == check)
    (result,) = in_own_processes(verify_class, [Task(target(name), generated, cases)], timeout=120, name=str)
    assert {each.check: each.outcome for each in result.checks} == {PLAIN_CASE.name: SAME, check: SAME}


class _Model(nn.Module):
    def __init__(self, restless: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self._restless = restless

    def forward(self, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.weight.sum() * (random.random() if self._restless else 1.0)}


def test_an_original_that_does_not_repeat_itself_is_recorded_as_such() -> None:
    troubles = []
    for restless in (False, True):
        tiny = TinyModel(_Model(restless), Batch({"labels": torch.zeros(2, 3)}))
        answer = run(PLAIN_CASE, tiny.model, tiny.inputs)
        assert isinstance(answer, Ran)
        troubles.append(_trouble(PLAIN_CASE, _Original(answer, None, tiny.inputs), tiny, repeat=True))
    assert troubles == [None, "the original gives another result at each call"]
