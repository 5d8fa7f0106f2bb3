# BirdForCausalLM: not emitted, FG603 at 39: the head does more than compute logits (line 21)
