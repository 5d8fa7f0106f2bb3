# BirdForCausalLM: not emitted, FG604 at 26: labels that are double-shifted need rows chosen on both sides
