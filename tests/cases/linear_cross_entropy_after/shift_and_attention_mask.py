# BirdForCausalLM: not emitted, FG604 at 34: labels that are shifted need rows chosen on both sides
