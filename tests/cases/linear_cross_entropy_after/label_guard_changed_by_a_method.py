# BirdForCausalLM: not emitted, FG601 at 29: what the loss is asked for by cannot be asked before the head: `self.on` is stored in the forward: `self.on`
