# BirdForCausalLM: not emitted, FG601 at 28: a statement between head and loss calls `self.configure`, which may change what the head reads
