# BirdForCausalLM: not emitted, FG603 at 37: what the head calls would be called twice, or in another order
