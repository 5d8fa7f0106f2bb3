"""Linear head and cross-entropy as one operation: `reference.py` defines it, `op.py` computes it."""
