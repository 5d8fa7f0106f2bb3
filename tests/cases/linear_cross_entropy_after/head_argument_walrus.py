# BirdForCausalLM: not emitted, FG604 at 26: the argument of the head binds a name
