# BirdForCausalLM: not emitted, FG605 at 31: 2 losses over a vocabulary in one function
