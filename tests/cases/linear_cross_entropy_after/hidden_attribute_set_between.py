# BirdForCausalLM: not emitted, FG609 at 22: a statement between head and loss sets `self.model(input_ids).last_hidden_state`
