# BirdForCausalLM: not emitted, FG603 at 36: `torch.nn.functional.gelu` in the head cannot be called from the function
