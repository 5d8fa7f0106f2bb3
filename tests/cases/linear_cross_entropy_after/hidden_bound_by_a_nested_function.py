# BirdForCausalLM: not emitted, FG609 at 25: a statement between head and loss calls `<nested definition>`, which may change what the head reads
