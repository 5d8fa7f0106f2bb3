# BirdForCausalLM: not emitted, FG601 at 20: the loss is not under a condition that can be asked before the head runs
