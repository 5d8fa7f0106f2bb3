# BirdForMaskedLM: not emitted, FG603 at 26: the logits are a product that the function itself makes with a weight
