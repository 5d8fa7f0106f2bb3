# BirdForCausalLM: not emitted, FG601 at 26: a statement between head and loss calls `shake`, which may change what the head reads
