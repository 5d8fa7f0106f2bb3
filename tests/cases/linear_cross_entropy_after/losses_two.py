# BirdForCausalLM: not emitted, FG601 at 31: the logits are not bound to a name of their own
