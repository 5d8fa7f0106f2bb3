# BirdForCausalLM: not emitted, FG609 at 23: a statement between head and loss changes `self.model(input_ids)[0].view(-1).data`
