# BirdForCausalLM: not emitted, FG601 at 22: a statement between head and loss does more than bind names
