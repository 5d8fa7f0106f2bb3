# BirdForCausalLM: not emitted, FG603 at 40: the name `head_input` is taken
