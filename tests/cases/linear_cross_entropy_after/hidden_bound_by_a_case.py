# BirdForCausalLM: not emitted, FG609 at 23: a statement between head and loss has a `match`
