# BirdForCausalLM: not emitted, FG602 at 27: `outputs` is needed after the loss for more than the output
