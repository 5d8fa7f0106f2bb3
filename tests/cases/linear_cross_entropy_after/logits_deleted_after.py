# BirdForCausalLM: not emitted, FG602 at 25: `logits` is needed after the loss for more than the output
