# BirdForCausalLM: not emitted, FG602 at 26: `lm_labels` is computed from the logits and needed by the loss
