# BirdForCausalLM: not emitted, FG601 at 22: a statement beside the loss cannot be moved as it is
