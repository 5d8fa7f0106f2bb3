"""What reading the functions that hold a vocabulary loss costs with `ast` and with libcst (docs/adr/0001).

    python benchmarks/parsers.py [--source installed|PATH|WHEEL|VERSION]

One process, one round; the three rows are over the same texts.
"""

from __future__ import annotations

import argparse
import ast
import time

import libcst
from libcst.metadata import MetadataWrapper, PositionProvider

from fusegen.codegen.index import FileIndex
from fusegen.codegen.sources import open_source

MARKS = ("CrossEntropyLoss", "cross_entropy(", "loss_function(", "nll_loss(")


def functions(spec: str) -> list[str]:
    """The text of every method that computes a loss and mentions a vocabulary, as a module of its own."""
    found = []
    for file in open_source(spec).files():
        for block in FileIndex(file.content.decode()).classes.values():
            for method in block.methods.values():
                if "vocab" in method.text and any(mark in method.text for mark in MARKS):
                    found.append("class _:\n" + method.text)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="installed")
    texts = functions(parser.parse_args().source)
    print(f"{len(texts)} functions, {sum(map(len, texts)) / 1e6:.1f} MB")
    start = time.perf_counter()
    for text in texts:
        ast.parse(text)
    print(f"  ast.parse             {time.perf_counter() - start:5.1f} s")
    start = time.perf_counter()
    modules = [libcst.parse_module(text) for text in texts]
    print(f"  libcst.parse_module   {time.perf_counter() - start:5.1f} s")
    start = time.perf_counter()
    for module in modules:
        MetadataWrapper(module, unsafe_skip_copy=True).resolve(PositionProvider)
    print(f"  libcst positions      {time.perf_counter() - start:5.1f} s")


if __name__ == "__main__":
    main()
