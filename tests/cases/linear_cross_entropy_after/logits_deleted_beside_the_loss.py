# BirdForCausalLM: not emitted, FG602 at 25: a statement between head and loss does more than bind names
