# BirdForCausalLM: not emitted, FG609 at 26: a statement between head and loss calls `shake`, which changes `self.model(input_ids)[0].data` (line 13)
