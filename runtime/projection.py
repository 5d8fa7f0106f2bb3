"""A projection to the vocabulary that no linear makes: `hidden @ weight.T + bias`, e.g. with an embedding's weight."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Projection(NamedTuple):
    """`weight` is `(V, H)`, `bias` `(V,)`; it stands where the fused losses take a linear."""

    weight: Tensor
    bias: Tensor | None = None
