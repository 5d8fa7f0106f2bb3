# BirdForCausalLM: not emitted, FG602 at 28: the hidden states are bound again between head and loss
