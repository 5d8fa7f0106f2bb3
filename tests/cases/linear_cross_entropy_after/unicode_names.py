# BirdForCausalLM: not emitted, FG602 at 26: `logits` is needed after the loss for more than the output
