# BirdForCausalLM: not emitted, FG601 at 23: the loss is not under a condition that can be asked before the head runs
