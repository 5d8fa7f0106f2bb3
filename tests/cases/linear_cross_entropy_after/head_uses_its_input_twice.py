# BirdForCausalLM: not emitted, FG603 at 36: `self.lm_head.transform(self.dropout(self.model(input_ids)[0…` in the head cannot be written down
