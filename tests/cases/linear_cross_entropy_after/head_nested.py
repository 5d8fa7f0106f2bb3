# BirdForMaskedLM: not emitted, FG603 at 58: the head is a module with more than one linear in it
