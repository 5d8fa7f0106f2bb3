# BirdForCausalLM: not emitted, FG601 at 23: head and loss are not statements of one run in the body
