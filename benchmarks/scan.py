"""Time and memory of `fusegen scan`, against one `ast.parse` of every modeling file in a single process.

    python benchmarks/scan.py [--source installed|PATH|WHEEL|VERSION] [--rounds 5]

Everything is a whole process, from start to printed report. The three kinds of run alternate, so that a
machine that slows down slows them all; the numbers are medians. Memory is the peak of the largest process,
and that times the number of processes: no more can have been in use at once.
"""

from __future__ import annotations

from whole_runs import alternate, describe, options, verdict

COLD_SHARE = 0.35
WARM_SECONDS = 0.6
MEMORY_MEGABYTES = 400


def main() -> None:
    chosen = options(__doc__)
    describe(chosen.source, chosen.jobs)
    scan = ["scan", "--quiet", "--source", chosen.source, "--jobs", str(chosen.jobs)]
    kinds = {"scan, cold": [*scan, "--no-cache"], "scan, warm": scan}
    results = alternate(kinds, scan, chosen.source, chosen.rounds)
    results.show()
    share, seconds = results.share("scan, cold"), results.seconds("scan, warm")
    together = results.megabytes("scan, cold") * (chosen.jobs + 1 if chosen.jobs > 1 else 1)
    print("targets")
    verdict(f"cold {share:.2f} x ast.parse, at most {COLD_SHARE}", share <= COLD_SHARE)
    verdict(f"warm {seconds:.2f} s, at most {WARM_SECONDS}", seconds <= WARM_SECONDS)
    verdict(f"memory at most {together:.0f} MB together, at most {MEMORY_MEGABYTES}", together <= MEMORY_MEGABYTES)


if __name__ == "__main__":
    main()
