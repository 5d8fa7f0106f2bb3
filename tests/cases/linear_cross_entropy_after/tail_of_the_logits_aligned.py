# BirdForCausalLM: not emitted, FG604 at 26: the fused call has no keyword for token_select
