# BirdForCausalLM: not emitted, FG601 at 22: the loss is not under a condition that can be asked before the head runs
