"""The operations that may stand between head and loss, one a file; longest reading first.

Each file has a `read(value, kinds)` that gives the `Step` it recognises, a `Refusal` where it must not go
on, or None. Adding one: write the file, put it in `LOGIT_OPS`, add fixtures under tests/cases.
"""

from __future__ import annotations

from collections.abc import Callable

from fusegen.codegen.logit_ops import bias, cast, layout, mask, scale, soft_cap, token_select, vocab_slice
from fusegen.codegen.logit_ops.step import Kinds, Refusal, Step
from fusegen.codegen.values import Value

Reader = Callable[[Value, Kinds], Step | Refusal | None]

# soft_cap before scale (a cap is also a product); vocab_slice before token_select (both are subscripts).
LOGIT_OPS: tuple[Reader, ...] = (
    soft_cap.read,
    scale.read,
    bias.read,
    cast.read,
    layout.read,
    vocab_slice.read,
    token_select.read,
    mask.read,
)
