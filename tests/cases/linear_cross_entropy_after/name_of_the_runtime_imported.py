# BirdForCausalLM: not emitted, FG604 at 26: the name `causal_lm_loss` is taken
