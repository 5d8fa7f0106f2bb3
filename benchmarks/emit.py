"""Time and memory of `fusegen emit` of a whole tree, against one `ast.parse` of every modeling file in one process.

    python benchmarks/emit.py [--source installed|PATH|WHEEL|VERSION] [--rounds 5] [--jobs N]

A run is a whole process, from start to the last file, with the scan that it stands on. A cold one uses no cache and
writes the whole tree into a new folder; a warm one finds everything in the cache, and the folder as it should be.
The kinds of run alternate, see benchmarks/scan.py, whose figures these can be read beside.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from scan import PARSE, SCAN, Run, alternate, measure, print_runs, verdict

from fusegen.codegen.sources import open_source

COLD_SECONDS = 6.0
WARM_SECONDS = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="installed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()

    source = open_source(options.source)
    print(f"{source.package} {source.version}: {len(source.paths())} modeling files, {options.jobs} processes")

    emit = [SCAN, "emit", "--quiet", "--source", options.source, "--jobs", str(options.jobs), "--out"]
    runs: dict[str, list[Run]] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"FUSEGEN_CACHE_DIR": str(Path(folder) / "cache")}
        warm = [*emit, str(Path(folder) / "generated")]
        measure(warm, environment)
        for number in range(options.rounds):
            cold = [*emit, str(Path(folder) / f"generated-{number}"), "--no-cache"]
            kinds = {"ast.parse": [PARSE, options.source], "emit, cold": cold, "emit, warm": warm}
            for kind, of in alternate(kinds, 1, environment).items():
                runs.setdefault(kind, []).extend(of)

    seconds, _ = print_runs(runs, "ast.parse")
    print("targets")
    verdict(f"cold {seconds['emit, cold']:.2f} s, at most {COLD_SECONDS}", seconds["emit, cold"] <= COLD_SECONDS)
    verdict(f"warm {seconds['emit, warm']:.2f} s, at most {WARM_SECONDS}", seconds["emit, warm"] <= WARM_SECONDS)


if __name__ == "__main__":
    main()
