# BirdForCausalLM: not emitted, FG604 at 29: the name `causal_lm_loss` is taken
