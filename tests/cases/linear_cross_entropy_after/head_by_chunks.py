# BirdForCausalLM: not emitted, FG603 at 40: the head is a module with more than one linear in it
