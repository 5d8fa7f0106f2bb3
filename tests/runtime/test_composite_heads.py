"""When a composite head may be taken apart: every module that the fused loss passes over does what its source says."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")

from torch import nn  # noqa: E402

from fusegen.runtime import Projection, coverage, fusible  # noqa: E402
from fusegen.runtime.calls import reset_coverage  # noqa: E402


class Predictions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transform = nn.Linear(8, 8)
        self.decoder = nn.Linear(8, 16)

    def forward(self, hidden):
        return self.decoder(self.transform(hidden))


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predictions = Predictions()

    def forward(self, hidden):
        return self.predictions(hidden)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls = Head()


class OtherPredictions(Predictions):
    """A subclass, as a user writes it."""


@pytest.fixture
def model():
    reset_coverage()
    yield Model().train()
    reset_coverage()


LABELS = torch.zeros(1, dtype=torch.int64)


def ask(model, **kwargs) -> bool:
    through = {"cls": Head, "cls.predictions": Predictions}
    return fusible(model, "cls.predictions.decoder", LABELS, through=through, **kwargs)


def outcomes() -> dict[str, int]:
    (counts,) = coverage().values()
    return counts


def test_the_head_as_it_was_read_is_fused(model) -> None:
    assert ask(model)
    assert coverage() == {}


def hook_on_the_way(model) -> None:
    model.cls.predictions.register_forward_hook(lambda *_: None)


def pre_hook_on_the_whole(model) -> None:
    model.cls.register_forward_pre_hook(lambda *_: None)


def another_class_on_the_way(model) -> None:
    model.cls.predictions = OtherPredictions()


def replaced_forward(model) -> None:
    model.cls.forward = lambda hidden: hidden


def another_head_altogether(model) -> None:
    model.cls = nn.Linear(8, 16)


def no_head_at_all(model) -> None:
    del model.cls


@pytest.mark.parametrize(
    "change",
    [
        hook_on_the_way,
        pre_hook_on_the_whole,
        another_class_on_the_way,
        replaced_forward,
        another_head_altogether,
        no_head_at_all,
    ],
)
def test_whatever_the_fused_loss_would_pass_over_refuses(model, change) -> None:
    change(model)
    assert not ask(model)
    assert outcomes() == {"FG519": 1}


def test_a_class_whose_forward_was_replaced_refuses(model, monkeypatch) -> None:
    def forward(self, hidden):
        return hidden

    forward.__module__ = "somebody.elses"
    monkeypatch.setattr(Head, "forward", forward)
    assert not ask(model)
    assert outcomes() == {"FG519": 1}


def test_a_hook_on_the_last_linear_is_one_on_the_head(model) -> None:
    model.cls.predictions.decoder.register_forward_hook(lambda *_: None)
    assert not ask(model)
    assert outcomes() == {"FG513": 1}


def test_modules_that_are_called_as_before_may_have_hooks(model) -> None:
    model.cls.predictions.transform.register_forward_hook(lambda *_: None)
    assert ask(model)


class OwnLinear(nn.Linear):
    """A head with a forward of its own, which is a product with its own weight."""

    def forward(self, hidden):
        return nn.functional.linear(hidden, self.weight, self.bias)


def test_a_class_that_was_read_may_be_the_head_itself(model) -> None:
    model.cls = OwnLinear(8, 16)
    assert fusible(model, "cls", LABELS, through={"cls": OwnLinear})
    assert not fusible(model, "cls", LABELS)
    assert outcomes() == {"FG512": 1}


@pytest.mark.parametrize("weight", [torch.zeros(16, 8, device="meta"), torch.zeros(16), torch.zeros(16, 8).int()])
def test_a_weight_must_be_one_that_the_kernel_can_read(model, weight) -> None:
    assert fusible(model, Projection(torch.zeros(16, 8)), LABELS)
    assert not fusible(model, Projection(weight), LABELS)
    assert outcomes() == {"FG514": 1}


def test_a_condition_is_asked_last_and_counted(model) -> None:
    assert ask(model, where=lambda: True)
    assert not ask(model, where=lambda: False)
    assert not ask(model, where=lambda: model.attribute_that_only_one_branch_of_the_original_reads)
    assert outcomes() == {"FG520": 2}
    model.cls.predictions.register_forward_hook(lambda *_: None)
    assert not ask(model, where=lambda: pytest.fail("asked although something else refuses"))
