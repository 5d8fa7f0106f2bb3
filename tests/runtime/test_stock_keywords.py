"""What of a caller's keywords reaches the fused loss."""

from __future__ import annotations

import pytest

from fusegen.runtime.losses import stock_keywords


def test_only_what_a_stock_loss_reads_reaches_the_fused_one() -> None:
    given = {"num_items_in_batch": 4, "softcap": 1.0, "shift_labels": None, "head": 1}
    assert stock_keywords(given) == {"num_items_in_batch": 4, "shift_labels": None}


@pytest.mark.parametrize("name", ["logits", "labels", "vocab_size"])
def test_what_the_call_writes_itself_raises_as_in_the_original(name: str) -> None:
    with pytest.raises(TypeError, match=f"multiple values for argument '{name}'"):
        stock_keywords({name: 11})
