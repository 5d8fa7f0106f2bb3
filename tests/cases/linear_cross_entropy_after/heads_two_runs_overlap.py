# BirdForCausalLM: not emitted, FG605 at 32: the runs of two heads are in each other's way
