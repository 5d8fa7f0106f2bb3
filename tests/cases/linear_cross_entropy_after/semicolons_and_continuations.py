# BirdForCausalLM: not emitted, FG601 at 26: several statements stand on one line
