"""What a walk finds in one function: its vocabulary losses with their chains, and what else it computes."""

from __future__ import annotations

from dataclasses import dataclass

from fusegen.codegen.bindings import CallRecord, Trace
from fusegen.codegen.chain import Chain
from fusegen.codegen.index import FunctionBlock
from fusegen.codegen.logit_ops.step import Refusal
from fusegen.codegen.losses import Loss
from fusegen.codegen.reading import Reading
from fusegen.codegen.uses import Uses


@dataclass(frozen=True, slots=True)
class Found:
    """A loss call over a vocabulary, where it stands, and its chain or why there is none."""

    record: CallRecord
    loss: Loss
    chain: Chain | Refusal


@dataclass(frozen=True, slots=True)
class Analysis:
    """A walked function: its vocabulary losses, other losses (what, line), and loss calls that could not be read.

    `uses` are those of the logits besides their losses, with the conditions that they need.
    """

    block: FunctionBlock
    walked: Trace
    reading: Reading
    found: tuple[Found, ...]
    others: tuple[tuple[str, int], ...]
    refusals: tuple[tuple[CallRecord, Refusal], ...]
    uses: Uses
