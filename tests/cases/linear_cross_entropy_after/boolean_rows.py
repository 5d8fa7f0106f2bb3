# BirdForMaskedImageModeling: not emitted, FG604 at 24: the fused call has no keyword for token_select
