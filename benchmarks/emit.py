"""Time and memory of `fusegen emit` of a whole tree, against one `ast.parse` of every modeling file in one process.

    python benchmarks/emit.py [--source installed|PATH|WHEEL|VERSION] [--rounds 5]

Everything is a whole process, from start to the last file, with the scan that it stands on. A cold run uses no cache
and writes the whole tree into a new folder; a warm one finds everything in the cache, and the folder as it should be.
The kinds of run alternate, so that a machine that slows down slows them all; the numbers are medians.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from whole_runs import alternate, describe, options, verdict

COLD_SECONDS = 6.0
WARM_SECONDS = 1.5


def main() -> None:
    chosen = options(__doc__)
    describe(chosen.source, chosen.jobs)
    with tempfile.TemporaryDirectory() as folder:
        emit = ["emit", "--quiet", "--source", chosen.source, "--jobs", str(chosen.jobs), "--out"]
        kept, fresh = str(Path(folder) / "kept"), str(Path(folder) / "fresh-{round}")
        kinds = {"emit, cold": [*emit, fresh, "--no-cache"], "emit, warm": [*emit, kept]}
        results = alternate(kinds, [*emit, kept], chosen.source, chosen.rounds)
    results.show()
    cold, warm = results.seconds("emit, cold"), results.seconds("emit, warm")
    print("targets")
    verdict(f"cold {cold:.2f} s, at most {COLD_SECONDS}", cold <= COLD_SECONDS)
    verdict(f"warm {warm:.2f} s, at most {WARM_SECONDS}", warm <= WARM_SECONDS)
    print(f"ratio to one ast.parse: cold {results.share('emit, cold'):.2f}, warm {results.share('emit, warm'):.2f}")


if __name__ == "__main__":
    main()
