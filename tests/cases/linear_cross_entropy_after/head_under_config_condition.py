# BirdForCausalLM: not emitted, FG601 at 29: head and loss are not statements of one run in the body
