# BirdForCausalLM: not emitted, FG609 at 22: a statement between head and loss calls `self.lm_head.weight.data.mul_`, which may change what the head reads
