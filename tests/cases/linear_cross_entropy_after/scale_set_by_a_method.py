# BirdForCausalLM: not emitted, FG609 at 27: a statement between head and loss calls `self.step`, which sets `self.scale` (line 21)
