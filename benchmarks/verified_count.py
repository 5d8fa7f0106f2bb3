"""How many classes of `generated/` are recorded as verified, as `make record` leaves them.

python benchmarks/verified_count.py             # print it
python benchmarks/verified_count.py --readme    # put it into README.md
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from readme import put

from fusegen.verify.targets import read_manifest

GENERATED = Path(__file__).parents[1] / "generated"


def count(manifest: dict[str, Any]) -> str:
    """One line: the release, and its matched classes by what became of them."""
    release, left_out = manifest["source"]["version"], len(manifest["not_emitted"])
    verified = {(each["model"], each["class"]): _is_verified(each, release) for each in manifest["classes"]}
    good = sum(verified.values())
    bad = len(verified) - good
    return (
        f"transformers {release}, {len(verified) + left_out} classes: {good} verified, {bad} not verified, "
        f"{left_out} not emitted"
    )


def _is_verified(entry: dict[str, Any], release: str) -> bool:
    return entry.get("verified", {}).get("version") == release


def part(manifest: dict[str, Any]) -> str:
    """Markdown for the README."""
    return f"\n    {count(manifest)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", action="store_true", help="rewrite the line in README.md")
    arguments = parser.parse_args()
    manifest = read_manifest(GENERATED)
    if arguments.readme:
        put("verified", part(manifest))
    print(count(manifest))


if __name__ == "__main__":
    main()
