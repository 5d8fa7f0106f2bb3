# BirdForCausalLM: not emitted, FG604 at 24: labels that are flat-shifted need rows chosen on both sides
