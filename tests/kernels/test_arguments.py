"""What `linear_cross_entropy` refuses, each time by the name of the argument, and what numbers it takes."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")

from fusegen.kernels import linear_cross_entropy, linear_cross_entropy_reference  # noqa: E402

HIDDEN, VOCABULARY = 4, 11


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"hidden": torch.zeros(7, 5)}, ValueError, "hidden: expected the shape"),
        ({"hidden": torch.zeros(7, HIDDEN, dtype=torch.int64)}, TypeError, "hidden: expected a floating dtype"),
        ({"hidden": None}, TypeError, "hidden: expected a tensor"),
        ({"weight": torch.zeros(VOCABULARY)}, ValueError, "weight: expected the shape"),
        ({"weight": torch.zeros(VOCABULARY, HIDDEN).half()}, TypeError, "weight: expected the dtype torch.float32"),
        ({"weight": torch.zeros(VOCABULARY, HIDDEN, device="meta")}, ValueError, "weight: expected the device cpu"),
        ({"labels": torch.zeros(6).long()}, ValueError, "labels: expected the shape"),
        ({"labels": torch.zeros(7).int()}, TypeError, "labels: expected torch.int64"),
        ({"labels": torch.full((7,), VOCABULARY)}, IndexError, f"expected 0 to 10 or ignore_index, got {VOCABULARY}"),
        ({"labels": torch.full((7,), -1)}, IndexError, "expected 0 to 10 or ignore_index, got -1"),
        ({"labels": torch.full((7,), 9), "valid_vocab": 9}, IndexError, "expected 0 to 8 or ignore_index, got 9"),
        ({"bias": [0.0] * VOCABULARY}, TypeError, "bias: expected a tensor, got list"),
        ({"vocab_bias": [0.0] * VOCABULARY}, TypeError, "vocab_bias: expected a tensor, got list"),
        ({"vocab_bias": torch.zeros(VOCABULARY).long()}, TypeError, "vocab_bias: expected a floating dtype"),
        (
            {"weight": torch.zeros(VOCABULARY, HIDDEN).to(torch.float8_e4m3fn)},
            TypeError,
            "weight: .* of 16 bits or more",
        ),
        ({"bias": torch.zeros(3)}, ValueError, "bias: expected the shape"),
        ({"vocab_bias": torch.zeros(3)}, ValueError, "vocab_bias: expected the shape"),
        ({"scale": torch.ones(2)}, ValueError, "scale: expected a number or a tensor of one element"),
        ({"scale": torch.tensor(1j)}, ValueError, "scale: .* real, got torch.complex64"),
        ({"scale": True}, TypeError, "scale: expected a number"),
        ({"divisor": "2"}, TypeError, "divisor: expected a number"),
        ({"softcap": torch.ones(1)}, TypeError, "softcap: expected a finite number, got Tensor"),
        ({"softcap": float("nan")}, ValueError, "softcap: expected a finite number, got nan"),
        ({"softcap": True}, TypeError, "softcap: expected a finite number, got bool"),
        ({"valid_vocab": 12}, ValueError, "valid_vocab: expected 1 to 11"),
        ({"valid_vocab": 5.0}, TypeError, "valid_vocab: expected 1 to 11"),
        ({"valid_vocab": 0}, ValueError, "valid_vocab: expected 1 to 11"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing: expected a number from 0 to 1"),
        ({"label_smoothing": None}, TypeError, "label_smoothing: expected a number from 0 to 1"),
        ({"reduction": ["mean"]}, TypeError, "reduction: expected one of none, mean, sum"),
        ({"reduction": "average"}, ValueError, "reduction: expected one of none, mean, sum"),
        ({"num_items": 3, "reduction": "sum"}, ValueError, "num_items"),
        ({"class_weight": torch.ones(3)}, ValueError, "class_weight: expected the shape"),
        ({"class_weight": 2.0}, TypeError, "class_weight: expected a tensor"),
        ({"class_weight": torch.ones(11, requires_grad=True)}, ValueError, "class_weight: expected a tensor without"),
        ({"token_weight": torch.ones(3)}, ValueError, "token_weight: expected the shape"),
        ({"token_weight": torch.ones(7).long()}, TypeError, "token_weight: expected a floating dtype"),
        ({"z_loss": None}, TypeError, "z_loss: expected a finite number"),
        ({"temperature": 0}, ValueError, "temperature: expected a finite number above 0"),
        ({"budget": 0}, ValueError, "budget: expected a positive number"),
        ({"budget": "1GB"}, TypeError, "budget: expected a positive number of bytes"),
        ({"budget": True}, TypeError, "budget: expected a positive number of bytes"),
        ({"exact": "yes"}, TypeError, "exact: expected True or False"),
        ({"shift": "no"}, TypeError, "shift: expected True or False"),
        ({"loss_dtype": torch.int64}, ValueError, "loss_dtype: expected a floating dtype"),
        ({"loss_dtype": "float32"}, TypeError, "loss_dtype: expected a floating dtype"),
        ({"outputs": ["accuracy"]}, ValueError, "outputs: expected some of logprob"),
        ({"outputs": "entropy"}, ValueError, "outputs: expected some of logprob"),
        ({"outputs": None}, TypeError, "outputs: expected some of logprob"),
        ({"ignore_index": None}, TypeError, "ignore_index: expected an integer"),
        ({"num_items": torch.ones(2)}, ValueError, "num_items: expected a number or a tensor of one element"),
        (
            {"num_items": torch.ones((), requires_grad=True)},
            ValueError,
            "num_items: expected a tensor without gradient",
        ),
        ({"hidden": torch.zeros(HIDDEN), "labels": torch.tensor(3), "shift": True}, ValueError, "labels: .* to shift"),
    ],
)
def test_errors_name_the_argument(change, error, words):
    arguments = {
        "hidden": torch.zeros(7, HIDDEN),
        "weight": torch.zeros(VOCABULARY, HIDDEN),
        "labels": torch.zeros(7, dtype=torch.int64),
    }
    with pytest.raises(error, match=words):
        linear_cross_entropy(**arguments | change)


def test_float64_under_autocast_names_the_argument():
    hidden, weight = torch.randn(7, HIDDEN, dtype=torch.float64), torch.randn(VOCABULARY, HIDDEN, dtype=torch.float64)
    labels = torch.arange(7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear_cross_entropy(hidden, weight, labels).isfinite()
        with pytest.raises(TypeError, match=r"weight: expected the dtype torch\.float64 of hidden"):
            linear_cross_entropy(hidden, weight.float(), labels)


def test_numbers_of_numpy():
    numpy = pytest.importorskip("numpy")
    hidden, weight, labels = torch.randn(7, HIDDEN), torch.randn(VOCABULARY, HIDDEN), torch.arange(7)
    options = {"ignore_index": -100, "valid_vocab": 9, "budget": 1000, "softcap": 2.0, "temperature": 0.5}
    of_numpy = {name: numpy.array(value)[()] for name, value in options.items()}
    found = [linear_cross_entropy(hidden, weight, labels, **given) for given in (of_numpy, options)]
    torch.testing.assert_close(*found)


NUMBERS = {
    "float64": torch.tensor(5.0, dtype=torch.float64),
    "float16 of one element": torch.tensor([5.0], dtype=torch.float16),
    "bool": torch.tensor(True),
    "bool of one element": torch.tensor([True]),
    "int64": torch.tensor([[5]]),
}


@pytest.mark.parametrize("outputs", [(), ("logprob",)], ids=str)
@pytest.mark.parametrize("name", NUMBERS)
def test_the_dtype_of_the_loss_is_that_of_torchs_division(name, outputs):
    hidden, weight, labels = torch.randn(7, HIDDEN), torch.randn(VOCABULARY, HIDDEN).requires_grad_(), torch.arange(7)
    expected = torch.nn.functional.cross_entropy(hidden @ weight.T, labels, reduction="sum") / NUMBERS[name]
    for function in (linear_cross_entropy, linear_cross_entropy_reference):
        found = function(hidden, weight, labels, num_items=NUMBERS[name], outputs=outputs)
        torch.testing.assert_close(found.loss if outputs else found, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("options", [{"softcap": 0}, {"divisor": 0}, {"scale": 0.0}, {"divisor": -0.0}], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_numbers_that_reach_0(options, reduction):
    """Nothing but what the statements give: a constant, or NaN."""
    hidden, weight, labels = torch.randn(7, HIDDEN), torch.randn(VOCABULARY, HIDDEN).requires_grad_(), torch.arange(7)
    found = [
        (loss, torch.autograd.grad(loss.sum(), weight)[0])
        for loss in (
            function(hidden, weight, labels, reduction=reduction, **options)
            for function in (linear_cross_entropy, linear_cross_entropy_reference)
        )
    ]
    torch.testing.assert_close(*found, equal_nan=True)


def test_a_sharded_tensor_is_refused_in_one_sentence():
    distributed = pytest.importorskip("torch.distributed.tensor")
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    try:
        mesh = torch.distributed.init_device_mesh("cpu", (2,))
        hidden = distributed.distribute_tensor(torch.randn(8, HIDDEN), mesh, [distributed.Shard(0)])
        with pytest.raises(TypeError, match="hidden: expected a tensor of this process, got a DTensor"):
            linear_cross_entropy(hidden, torch.randn(VOCABULARY, HIDDEN), torch.arange(8))
    finally:
        torch.distributed.destroy_process_group()
