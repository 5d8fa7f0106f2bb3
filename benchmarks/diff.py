"""Time and memory of `fusegen diff` over two full trees, and of a scan of a wheel beside one of a directory.

    python benchmarks/diff.py [--old 5.5.4] [--new installed] [--rounds 5]

OLD is read as a wheel, NEW as it is; the wheel and the directory that are compared hold the same release. The
kinds of run alternate, see benchmarks/scan.py, whose figures these can be read beside.
"""

from __future__ import annotations

import argparse
import os
import tempfile

from scan import PARSE, SCAN, alternate, measure, print_runs, verdict

from fusegen.codegen.sources import open_source

COLD_SECONDS = 8
WARM_SECONDS = 1
WHEEL_SHARE = 1.1

PARSE_BOTH = f"{PARSE}\nsys.argv[1] = sys.argv[2]\n{PARSE}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", default="5.5.4")
    parser.add_argument("--new", default="installed")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    old, new = open_source(options.old), open_source(options.new)
    wheel = open_source(str(new.version))
    print(f"{old.version} ({len(old.paths())} files) -> {new.version} ({len(new.paths())} files)")

    trees = [str(old.location), str(new.location)]
    diff = [SCAN, "diff", "--quiet", *trees]
    scan = [SCAN, "scan", "--quiet", "--no-cache", "--source"]
    kinds = {
        "ast.parse of both": [PARSE_BOTH, *trees],
        "diff, cold": [*diff, "--no-cache"],
        "diff, warm": diff,
        "scan of the directory": [*scan, str(new.location)],
        "scan of its wheel": [*scan, str(wheel.location)],
    }
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"FUSEGEN_CACHE_DIR": cache}
        measure(diff, environment)
        runs = alternate(kinds, options.rounds, environment)

    seconds, _ = print_runs(runs, "ast.parse of both")
    share = seconds["scan of its wheel"] / seconds["scan of the directory"]
    print("targets")
    verdict(f"cold {seconds['diff, cold']:.2f} s, at most {COLD_SECONDS}", seconds["diff, cold"] <= COLD_SECONDS)
    verdict(f"warm {seconds['diff, warm']:.2f} s, at most {WARM_SECONDS}", seconds["diff, warm"] <= WARM_SECONDS)
    verdict(f"wheel {share:.2f} x directory, at most {WHEEL_SHARE}", share <= WHEEL_SHARE)


if __name__ == "__main__":
    main()
