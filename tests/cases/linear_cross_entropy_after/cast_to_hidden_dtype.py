# BirdForCausalLM: not emitted, FG604 at 25: the logits are cast to another dtype than float32 before the loss
