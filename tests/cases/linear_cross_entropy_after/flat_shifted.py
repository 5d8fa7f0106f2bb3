# BirdForCausalLM: not emitted, FG604 at 24: labels in one row that the loss shifts: the last of a sequence meets the next one's first
