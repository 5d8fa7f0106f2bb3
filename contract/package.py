"""What fusegen ships with and what it needs."""

from __future__ import annotations

# The oldest release of transformers that is read, patched and verified; pyproject.toml asks for it as well.
OLDEST_TRANSFORMERS = "4.56"

# The tree of forwards that `fusegen.install()` takes where no other one is named.
SHIPPED_TREE = "fusegen.generated"
