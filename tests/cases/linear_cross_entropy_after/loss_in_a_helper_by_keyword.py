# BirdForCausalLM: not emitted, FG601 at 21: head and loss are not statements of one run
