"""The kernels for Hopper GPUs: that they compile for one anywhere, and on one that they compute what they should."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from fusegen.kernels.linear_cross_entropy.problem import Need, RowLoss, RowWeights
from fusegen.kernels.linear_cross_entropy.selection import Selection

triton = pytest.importorskip("triton", reason="triton is not installed")
hopper = pytest.importorskip("fusegen.kernels.linear_cross_entropy.hopper")

IGNORED = -100
needs_this_triton = pytest.mark.skipif(
    not hopper.compiles(),
    reason=f"the kernels are not for Triton {triton.__version__}",
)
needs_hopper = pytest.mark.skipif(
    not torch.cuda.is_available() or hopper.kernels(torch.device("cuda")) is None, reason="needs a Hopper GPU"
)


@needs_this_triton
@pytest.mark.parametrize("transformed", [False, True])
def test_statistics_compile_without_a_gpu(transformed: bool) -> None:
    flags = dict.fromkeys(("HAS_BIAS", "HAS_SCALE", "SCALE_IS_TENSOR", "HAS_SOFTCAP"), transformed)
    pointers = {"bias_ptr": "*bf16", "scale_ptr": "*fp32"} if transformed else {}
    compiled = compile_for_hopper(
        "_multiply_statistics", {"left": (64, 64), "right": (256, 64)},
        {"statistics_ptr": "*fp32", **pointers, "scale": "fp32", "softcap": "fp32"},
        ("n_rows", "n_columns", "valid_vocab", "hidden_size"), flags,
    )  # fmt: skip
    assert "wgmma" in compiled.asm["ptx"]


@needs_this_triton
@pytest.mark.parametrize(("first", "last"), [(True, False), (False, False), (False, True)])
def test_products_compile_without_a_gpu(first: bool, last: bool) -> None:
    compiled = compile_for_hopper(
        "_add_product", {"left": (64, 64), "right": (64, 256)},
        {"sum_ptr": "*i16", "out_ptr": "*bf16", "scale_ptr": "*fp32"},
        ("n_tokens", "n_rows", "n_columns"), {"FIRST": first, "LAST": last},
    )  # fmt: skip
    assert "wgmma" in compiled.asm["ptx"]


def compile_for_hopper(
    name: str,
    operands: dict[str, tuple[int, int]],
    pointers: dict[str, str],
    sizes: tuple[str, ...],
    flags: dict[str, bool],
) -> Any:
    """A kernel of `hopper_product.py` in machine code, with pointers and sizes that are multiples of 16."""
    from triton.backends.compiler import GPUTarget
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon._runtime import GluonASTSource

    from fusegen.kernels.linear_cross_entropy import hopper_product

    function = getattr(hopper_product, name)
    signature: dict[str, str] = dict.fromkeys(sizes, "i32") | pointers
    for operand, block in operands.items():
        layout = gl.NVMMASharedLayout.get_default_for(list(block), gl.bfloat16)
        signature[operand] = f"tensordesc<bf16{list(block)},{layout!r}>"
    absent = [each for each in function.arg_names if each not in signature and each not in flags]
    constants = dict.fromkeys(absent) | flags
    signature |= dict.fromkeys(constants, "constexpr")
    place = {each: (function.arg_names.index(each),) for each in signature}
    aligned = {place[each]: [["tt.divisibility", 16]] for each in signature if "ptr" in each or each in sizes}
    source = GluonASTSource(
        function,
        {each: signature[each] for each in function.arg_names},
        {place[each]: value for each, value in constants.items()},
        {key: value for key, value in aligned.items() if function.arg_names[key[0]] not in constants},
    )
    registers = hopper_product.REGISTERS.value
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4, "maxnreg": registers})


@dataclass(frozen=True)
class Case:
    """Sizes that no tile divides, and what stands between logits and loss."""

    n_rows: int
    hidden_size: int
    vocabulary: int
    scale: float = 1.0
    softcap: float | None = None
    valid_vocab: int | None = None
    bias: bool = False
    z_loss: float = 0.0
    ignored: float = 0.0
    budget: int = 2**30


CASES = (
    Case(1, 8, 9),
    Case(700, 72, 1301, ignored=0.3),
    Case(1500, 136, 30522, bias=True, softcap=6.0, scale=0.7),
    Case(900, 64, 5000, valid_vocab=4099, z_loss=0.01),
    Case(3000, 2304, 32000, scale=1.3, ignored=0.5, budget=1),
    Case(64, 24, 50257, ignored=1.0),
)


@pytest.mark.gpu
@needs_hopper
@pytest.mark.parametrize("scale_is_tensor", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses_alone(case: Case, dtype: torch.dtype, scale_is_tensor: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No logits are rounded, so the losses are as exact as float32 makes them."""
    from fusegen.kernels.linear_cross_entropy import schedules

    monkeypatch.setattr(schedules, "FEWEST_LOGITS", 0)
    torch.manual_seed(0)
    hidden = torch.randn(case.n_rows, case.hidden_size, device="cuda", dtype=dtype)
    weight = torch.randn(case.vocabulary, case.hidden_size, device="cuda", dtype=dtype) * (2 / case.hidden_size**0.5)
    valid = case.valid_vocab or case.vocabulary
    labels = torch.randint(0, valid, (case.n_rows,), device="cuda")
    labels[torch.rand(case.n_rows, device="cuda") < case.ignored] = IGNORED
    bias = torch.randn(case.vocabulary, device="cuda", dtype=dtype) if case.bias else None
    scale = torch.tensor(case.scale, device="cuda") if scale_is_tensor else case.scale
    rows = schedules.fused_rows(
        Selection(hidden, labels, IGNORED, valid), weight, bias=bias, class_weight=None, row_weights=RowWeights(),
        row=RowLoss(scale, case.softcap, case.valid_vocab, 0.0, case.z_loss), need=Need(), budget=case.budget,
    )  # fmt: skip
    counted = labels != IGNORED
    logits = hidden[counted].double() @ weight.double().t()
    logits = (logits + (0 if bias is None else bias.double())) * case.scale
    if case.softcap is not None:
        logits = case.softcap * torch.tanh(logits / case.softcap)
    lse = logits[:, :valid].logsumexp(1)
    logprob = logits.gather(1, labels[counted][:, None]).squeeze(1) - lse
    for found, expected in ((rows.lse, lse), (rows.logprob, logprob), (rows.loss, case.z_loss * lse**2 - logprob)):
        torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.gpu
@needs_hopper
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("vocabulary", "hidden_size"), [(8, 32), (1304, 288), (32008, 2304)])
def test_sums_over_chunks_are_rounded_once(vocabulary: int, hidden_size: int, dtype: torch.dtype) -> None:
    from fusegen.kernels.linear_cross_entropy.exact_product import add_product, product_scales

    torch.manual_seed(0)
    chunks = (700, 5, 64, 130)
    gradients = [torch.randn(tokens, vocabulary, device="cuda", dtype=dtype) for tokens in chunks]
    hidden = [torch.randn(tokens, hidden_size, device="cuda", dtype=dtype) for tokens in chunks]
    found = torch.full((vocabulary, hidden_size), torch.nan, device="cuda", dtype=dtype)
    scales = product_scales(found)
    for number, (gradient, states) in enumerate(zip(gradients, hidden, strict=True)):
        add_product(gradient, states, found, scales, first=number == 0, last=number == len(chunks) - 1)
    pairs = zip(gradients, hidden, strict=True)
    exact = torch.stack([gradient.double().t() @ states.double() for gradient, states in pairs]).sum(0)
    # Between chunks there are sixteen bits: eight more than bfloat16 has, and five more than float16.
    allowed = 1.02 if dtype == torch.bfloat16 else 1.1
    assert relative(found, exact) < allowed * relative(exact.to(dtype), exact)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())
