"""What `verify` has to know of each operation of a chain, so that leaving it out of the fused loss would show.

    {"op": "soft_cap", "cap": "self.config.cap"}   ->   the cap is set to 2.5, and `softcap=` must change the loss

An operation without a line here is not verified: equal numbers would prove nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand of an operation.

    Attributes:
        keywords: those of the adapters in `fusegen.runtime.losses` that may carry it; () where rows are chosen by
            cutting the hidden states.
        far: a value that is neither neutral nor its own inverse; None for what is no number.
        inverse: the keyword that would undo it.
    """

    keywords: tuple[str, ...]
    far: float | None = None
    inverse: str | None = None


OPERATIONS: Mapping[str, Mapping[str, Operand]] = {
    "bias": {"add": Operand(("vocab_bias",))},
    "cast": {"dtype": Operand(("logits_dtype", "loss_dtype"))},
    "scale": {
        "multiply": Operand(("scale",), far=1.7, inverse="divisor"),
        "divide": Operand(("divisor",), far=0.6, inverse="scale"),
    },
    "soft_cap": {"cap": Operand(("softcap",), far=2.5)},
    "token_select": {"positions": Operand(())},
    "vocab_slice": {"columns": Operand(("valid_vocab",), far=83)},
}

# The keywords by which a fused call says what stands between head and loss.
TRANSFORM_KEYWORDS = frozenset(
    keyword for operands in OPERATIONS.values() for operand in operands.values() for keyword in operand.keywords
)
# Casting to float32 what a stock loss casts by itself needs no keyword, and what it does to rounding is no difference.
NEEDS_NO_KEYWORD = frozenset({"cast", "token_select"})
# What a forward may say about the loss itself.
CRITERION_KEYWORDS = frozenset({"ignore_index", "label_smoothing", "num_items_in_batch", "reduction", "shift_labels"})
