# BirdForCausalLM: not emitted, FG609 at 22: a statement between head and loss changes `self.lm_head(self.model(input_ids)[0])`
