"""`logits * multiply / divide`: one number for all logits (Cohere, Granite)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fusegen.kernels.operator import Operator, Tensors


@dataclass(frozen=True, eq=False)
class LogitScale(Operator, name="scale"):
    """Logits `(..., V)` times `multiply`, then divided by `divide`: numbers, or tensors of one element, or None."""

    multiply: Tensor | float | None = None
    divide: Tensor | float | None = None

    def operands(self) -> tuple[Any, ...]:
        given = self.multiply, self.divide
        tensors = [value if isinstance(value, Tensor) else None for value in given]
        numbers = [1.0 if value is None or isinstance(value, Tensor) else value for value in given]
        return *tensors, *numbers

    @staticmethod
    def forward_compute(
        logits: Tensor, multiply: Tensor | None, divide: Tensor | None, factor: float, divisor: float
    ) -> tuple[Tensors, Tensors]:
        scaled = logits * (factor if multiply is None else multiply)
        return (scaled / (divisor if divide is None else divide),), ()

    @staticmethod
    def save_context(ctx: Any, inputs: tuple[Any, ...], saved: Tensors) -> None:
        logits, multiply, divide, ctx.factor, ctx.divisor = inputs
        ctx.save_for_backward(logits, multiply, divide)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensors:
        logits, multiply, divide = ctx.saved_tensors
        factor = ctx.factor if multiply is None else multiply
        divisor = ctx.divisor if divide is None else divide
        for_logits, for_multiply, for_divide, *_ = ctx.needs_input_grad
        return (
            (gradient * factor / divisor).to(logits.dtype) if for_logits else None,
            (gradient * logits / divisor).sum().reshape(multiply.shape).to(multiply.dtype) if for_multiply else None,
            (gradient * logits * factor / -(divisor * divisor)).sum().reshape(divide.shape).to(divide.dtype)
            if for_divide
            else None,
        )
