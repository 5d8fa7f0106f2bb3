# BirdForCausalLM: not emitted, FG604 at 27: labels that are shifted need rows chosen on both sides
