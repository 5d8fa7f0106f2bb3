"""What the static and the runtime half must agree on, and nothing else. It imports the standard library only."""
