# BirdForCausalLM: not emitted, FG602 at 23: `logits` is computed from the logits and needed by the loss
