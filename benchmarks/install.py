"""Time of `fusegen.install()` in a process that has imported transformers and one model, on this machine.

    python benchmarks/install.py [--rounds 3]

    shipped      every hash of the tree that ships is that of the installed file
    in memory    none is: the forwards of the one loaded model are generated, those of others when they are imported
    again        a second call
    an import    what importing one more model takes longer, in memory, than without fusegen

Each round is a process of its own; the numbers are medians, in milliseconds of wall clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """
import importlib, json, sys, time
from pathlib import Path
import torch
from transformers import LlamaForCausalLM
from fusegen.runtime import install, uninstall

def timed(action, *arguments):
    start = time.perf_counter()
    action(*arguments)
    return 1000 * (time.perf_counter() - start)

found = {"shipped": timed(install), "shipped, again": timed(install)}
uninstall()
stale = Path(sys.argv[1])
plain = timed(importlib.import_module, "transformers.models.mistral.modeling_mistral")
found |= {"in memory": timed(install, stale), "in memory, again": timed(install, stale)}
del sys.modules["transformers.models.mistral.modeling_mistral"]
uninstall()
install(stale)
found["an import, in memory"] = timed(importlib.import_module, "transformers.models.mistral.modeling_mistral") - plain
print(json.dumps(found))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        _write_stale_tree(Path(folder))
        command = [sys.executable, "-c", PROGRAM, folder]
        runs = [json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(rounds)]
    for name in runs[0]:
        print(f"  {name:<22} {statistics.median(run[name] for run in runs):7.0f} ms")


def _write_stale_tree(folder: Path) -> None:
    """The manifest that ships, with the hash of no file in it."""
    shipped = Path(__file__).parents[1] / "generated" / "manifest.json"
    manifest = json.loads(shipped.read_text(encoding="utf-8"))
    manifest["classes"] = [entry | {"sha256": "0" * 64} for entry in manifest["classes"]]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


if __name__ == "__main__":
    main()
