# BirdForPreTraining: not emitted, FG603 at 59: the head is a module with more than one linear in it
