# BirdForCausalLM: not emitted, FG603 at 38: `self.lm_head` stores something on an object
