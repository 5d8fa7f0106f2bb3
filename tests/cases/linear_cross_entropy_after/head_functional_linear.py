# BirdForMaskedLM: not emitted, FG603 at 27: the head is a module with more than one linear in it
