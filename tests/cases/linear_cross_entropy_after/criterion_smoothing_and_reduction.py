# BirdForCausalLM: not emitted, FG604 at 26: `reduction` of the criterion cannot be written down
