# BirdForCausalLM: not emitted, FG601 at 22: a statement between head and loss changes `self.lm_head.weight.data` in place
