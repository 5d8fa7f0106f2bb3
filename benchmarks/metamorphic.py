"""Rewrites of matched forwards, each run as it is and as fusegen emits it: loss, gradients, errors, side effects.

python benchmarks/metamorphic.py --count 100000        # both cores; docs/reliability.md has the figure (--record)
python benchmarks/metamorphic.py --seed 7 --only 4711  # one mutant: its text, what was rewritten, what came out
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import re
import sys
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "metamorphic"))


def main() -> int:
    """Judge mutants and print what was wrong; 1 if something was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", type=int, default=None)
    parser.add_argument("--sources", type=int, default=0, help="how many forwards of transformers; 0: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--show", type=int, default=3, help="how many of each kind are shown")
    parser.add_argument("--list-sources", action="store_true", help="which sources cannot be run on stub modules")
    parser.add_argument("--record", action="store_true", help="write the figure into docs/reliability.md")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}, sources {options.sources}", flush=True)
    from harness import WRONG, Outcome, base, counted, judge, pool, verdict

    if options.list_sources:
        for name in pool(seed, options.sources):
            if isinstance(found := base(name), str):
                print(f"{name}: {found}")
        return 0
    if options.only is not None:
        one = verdict(seed, options.only, pool(seed, options.sources))
        print(f"{one.text}\n\n{one.source}\n{chr(10).join(one.did)}\n{one.verdict}: {one.what}")
        return one.verdict in WRONG
    start, outcomes = time.time(), []
    kinds: Counter[str] = Counter()
    for one in judge(seed, options.count, options.sources, options.jobs):
        outcomes.append(one)
        if one.verdict in WRONG:
            kinds[_kind(one)] += 1
            if kinds[_kind(one)] <= options.show:
                print(
                    f"{one.verdict} --only {one.number} [{one.source}] {' | '.join(one.did)}\n    {one.what}",
                    flush=True,
                )
    print(f"{len(outcomes)} mutants in {time.time() - start:.0f} s: {counted(outcomes)}")
    if options.record:
        record("rewrites", seed, f"{len(outcomes)} mutants: {counted(outcomes)}")
    refused = Counter(code for one in outcomes if one.verdict == "refused" for code in one.what.split())
    print("refused by " + ", ".join(f"{code} {number}" for code, number in refused.most_common()))
    return any(isinstance(one, Outcome) and one.verdict in WRONG for one in outcomes)


def record(figure: str, seed: int, result: str) -> None:
    """Write a figure into its line of docs/reliability.md."""
    path = Path(__file__).parents[1] / "docs" / "reliability.md"
    version = f"fusegen {metadata.version('fusegen')}, transformers {metadata.version('transformers')}"
    line = f"| {figure} | {version} | {seed} | {time.strftime('%Y-%m-%d')} | {result} |"
    path.write_text(
        re.sub(rf"^\| {figure} \|.*$", line, path.read_text(encoding="utf-8"), flags=re.M), encoding="utf-8"
    )


def _kind(one: object) -> str:
    """Mutants of a kind fail alike: the verdict and the rewrite."""
    return f"{one.verdict} {' | '.join(one.did)}"  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
