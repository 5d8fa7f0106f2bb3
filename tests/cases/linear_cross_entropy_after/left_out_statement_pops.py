# BirdForCausalLM: not emitted, FG601 at 22: a statement that reads the logits calls `kwargs.pop` as well
