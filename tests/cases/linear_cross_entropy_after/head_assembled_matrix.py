# BirdForMaskedLM: not emitted, FG603 at 38: the logits are a product with a weight, not the result of a linear
