# BirdForCausalLM: not emitted, FG601 at 20: the loss is not under a plain `if labels is not None:`
