"""Generated forwards against the originals: same loss, same gradient of every parameter, on tiny random models.

The families are those of `families.py`.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import transformers
from families import FAMILIES, SEVERAL, Family, Several, tokens

from fusegen.runtime import coverage, fused, install

each_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


def called(model: torch.nn.Module, batch: dict[str, Any]) -> Any:
    torch.manual_seed(2)
    return model(**{name: value.clone() if torch.is_tensor(value) else value for name, value in batch.items()})


def trained(model: torch.nn.Module, batch: dict[str, Any]) -> tuple[Any, dict[str, torch.Tensor | None]]:
    """The output of a call in training, and the gradient of every parameter."""
    model.train().zero_grad()
    output = called(model, batch)
    output.loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return output, {name: None if gradient is None else gradient.clone() for name, gradient in gradients.items()}


def evaluated(model: torch.nn.Module, batch: dict[str, Any]) -> Any:
    with torch.no_grad():
        return called(model.eval(), batch)


def assert_close(actual: torch.Tensor, expected: torch.Tensor, name: str, relative: float, floor: float = 0.0) -> None:
    """By the norm of the difference; `floor` keeps gradients that are nothing but rounding from being compared."""
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), name
    error = (actual.double() - expected.double()).norm()
    assert error <= relative * max(expected.double().norm().item(), floor), name


def assert_same_step(model: torch.nn.Module, batch: dict[str, Any], step: tuple[Any, dict[str, Any]]) -> Any:
    """The fused path gives the loss and the gradients of `step`; returns its output."""
    expected, gradients = step
    before = sum(outcomes.get("fused", 0) for outcomes in coverage().values())
    output, fused_gradients = trained(model, batch)
    assert sum(outcomes.get("fused", 0) for outcomes in coverage().values()) > before
    assert_close(output.loss.detach(), expected.loss.detach(), "loss", 1e-5)
    largest = max(gradient.norm().item() for gradient in gradients.values() if gradient is not None)
    assert largest > 0
    for name, gradient in gradients.items():
        assert (fused_gradients[name] is None) == (gradient is None), name
        if gradient is not None:
            assert_close(fused_gradients[name], gradient, name, 1e-4, floor=1e-3 * largest)
    return output


@each_family
def test_training_is_the_same_without_logits(family: Family) -> None:
    model, batch = family.build(), family.batch() | family.extra
    step = trained(model, batch)
    install()
    output = assert_same_step(model, batch, step)
    cls = type(model)
    assert coverage()[f"{cls.__module__}.{cls.__qualname__}"] == {"fused": 1}
    assert type(output) is type(step[0])
    assert output.logits is None
    assert set(step[0].keys()) - {"logits"} == set(output.keys())


@pytest.mark.parametrize("several", SEVERAL, ids=str)
def test_a_loss_among_others_is_the_same(several: Several) -> None:
    family = several.family
    model, batch = family.build(), family.batch() | family.extra
    step, evaluation = trained(model, batch), evaluated(model, batch)
    install()
    output = assert_same_step(model, batch, step)
    assert {name.rpartition(".")[2]: counts for name, counts in coverage().items()} == {
        name: {"fused": count} for name, count in several.fused.items()
    }
    assert all(output[name] is None for name in several.cleared if name in output)
    assert set(step[0].keys()) - set(several.cleared) == set(output.keys())
    again = evaluated(model, batch)
    assert all(torch.equal(again[name], evaluation[name]) for name in ("loss", *several.cleared))


def test_a_loss_that_is_not_asked_for_leaves_the_logits_alone() -> None:
    family = SEVERAL[0].family
    model, batch = family.build(), family.batch()
    install()
    output = called(model, batch)
    assert output.loss is None
    assert output.prediction_logits is not None
    assert not coverage()


@each_family
def test_evaluation_keeps_its_logits(family: Family) -> None:
    model, batch = family.build(), family.batch() | family.extra
    expected = evaluated(model, batch)
    assert expected.logits.std() > 1
    install()
    output = evaluated(model, batch)
    assert torch.equal(output.logits, expected.logits)
    assert torch.equal(output.loss, expected.loss)
    with fused():
        output = evaluated(model, batch)
    assert output.logits is None
    assert_close(output.loss, expected.loss, "loss", 1e-5)


@pytest.mark.parametrize("count", [7, torch.tensor(7)], ids=["int", "tensor"])
@each_family
def test_the_number_of_items_divides_where_it_did(family: Family, count: int | torch.Tensor) -> None:
    model, batch = family.build(), family.batch() | family.extra | {"num_items_in_batch": count}
    forward = inspect.signature(type(model).forward).parameters.values()
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in forward):
        pytest.skip("takes no further keywords")
    step = trained(model, batch)
    install()
    assert_same_step(model, batch, step)


@each_family
def test_a_tuple_keeps_its_length_and_order(family: Family) -> None:
    """A forward that makes its tuple itself is fused, with None in the place of the logits; the others are not."""
    model, batch = family.build(), family.batch() | family.extra | {"return_dict": False}
    makes_it_itself = "return_dict" in inspect.signature(type(model).forward).parameters
    expected, evaluation = called(model, batch), evaluated(model, batch)
    install()
    output = called(model.train(), batch)
    (outcomes,) = coverage().values()
    assert outcomes == ({"fused": 1} if makes_it_itself else {"FG516": 1})
    assert type(output) is type(expected) is tuple
    assert_close(output[0].detach(), expected[0].detach(), "loss", 1e-5)
    places = [i for i, entry in enumerate(output) if entry is None]
    assert places == ([1] if makes_it_itself else [])
    assert [type(entry) for entry in output if entry is not None] == [
        type(entry) for i, entry in enumerate(expected) if i not in places
    ]
    assert len(evaluated(model, batch)) == len(evaluation)


@pytest.mark.parametrize("family", FAMILIES[:3], ids=str)
def test_shifted_labels_of_the_caller_count(family: Family) -> None:
    model, batch = family.build(), family.batch() | {"shift_labels": tokens(2, 10, seed=3)}
    step = trained(model, batch)
    install()
    assert_same_step(model, batch, step)


@pytest.mark.parametrize("family", FAMILIES[:3], ids=str)
def test_only_the_positions_that_are_kept_count(family: Family) -> None:
    model, batch = family.build(), family.batch()
    batch |= {"logits_to_keep": 5, "labels": batch["labels"][:, -5:]}
    step = trained(model, batch)
    install()
    assert_same_step(model, batch, step)


@each_family
def test_nothing_but_ignored_labels(family: Family) -> None:
    model, batch = family.build(), family.batch() | family.extra
    batch["labels"] = torch.full_like(batch["labels"], -100)
    try:
        expected, gradients = trained(model, batch)
    except (IndexError, RuntimeError, ValueError) as error:
        install()
        with pytest.raises(type(error)):
            trained(model, batch)
        return
    install()
    output, fused_gradients = trained(model, batch)
    torch.testing.assert_close(output.loss, expected.loss, equal_nan=True)
    torch.testing.assert_close(fused_gradients, gradients, equal_nan=True)


@each_family
def test_a_checkpoint_names_the_class_it_was(family: Family, tmp_path) -> None:
    install()
    model = family.build()
    trained(model, family.batch() | family.extra)
    model.save_pretrained(tmp_path)
    assert transformers.AutoConfig.from_pretrained(tmp_path).architectures == [family.name]
    assert type(model) is getattr(transformers, family.name)
