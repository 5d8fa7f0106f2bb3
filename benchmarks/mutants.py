"""Are the tests tests? One-line edits over codegen/, each against the fast tests; the edits that survive are listed.

    python benchmarks/mutants.py --count 200 --seed 1        # a sample
    python benchmarks/mutants.py --seed 1 --only 17 --count 200

Nothing is written: each edit lives in a process of its own, which imports the edited module from memory. It is killed
by the cases (what is found, what is emitted), by test_plan.py and test_rows.py, or by a sample of rewrites.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import io
import logging
import multiprocessing
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.abc import MetaPathFinder, SourceLoader
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "codegen"
sys.path[:0] = [str(ROOT / "tests" / "metamorphic"), str(TESTS)]

# What reads, matches and plans. What opens trees, writes files and makes reports has tests of its own, which are slow.
_LEFT_OUT = {
    "archives",
    "byte_code",
    "cache",
    "decoding",
    "diffs",
    "download",
    "emit",
    "generated",
    "git",
    "isolation",
    "layouts",
    "listing",
    "manifest",
    "package",
    "pages",
    "paths",
    "pipeline",
    "one_module",
    "reasons",
    "records",
    "selection",
    "sources",
    "swap",
    "versions",
    "whole_file",
    "writer",
    "describe",
}
_SECONDS = 240
_OTHER = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a file: where, what stood there and what stands there now."""

    path: str
    line: int
    before: str
    after: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before[:90]}  ->  {self.after[:90]}"


def files() -> list[Path]:
    """The files that are edited."""
    chosen = [
        *(ROOT / "codegen").glob("*.py"),
        *(ROOT / "codegen" / "fusions").glob("*.py"),
        *(ROOT / "codegen" / "logit_ops").glob("*.py"),
    ]
    return sorted(each for each in chosen if each.stem not in _LEFT_OUT and each.read_text().strip())


def edits(path: Path) -> Iterator[Edit]:
    """Every edit of a file."""
    text = path.read_text(encoding="utf-8")
    lines = text.encode().split(b"\n")
    for node in ast.walk(ast.parse(text)):
        for old, new in _edited(node):
            if old.end_lineno is None or (old.end_lineno != old.lineno and not isinstance(old, ast.stmt | ast.expr)):
                continue
            changed = _replaced(lines, old, new)
            before = ast.get_source_segment(text, old) or ""
            if changed is not None and before != new:
                yield Edit(str(path.relative_to(ROOT)), old.lineno, " ".join(before.split()), new, changed)


def _edited(node: ast.AST) -> Iterator[tuple[Any, str]]:
    """Parts of a node, and what they become."""
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) | ast.match_case(guard=ast.expr() as test):
            yield test, f"(not ({ast.unparse(test)}))"
        case ast.comprehension(ifs=[test, *_]):
            yield test, "True"
    match node:
        case ast.match_case(pattern=ast.MatchOr(patterns=patterns)):
            yield patterns[0], ast.unparse(patterns[1]) if len(patterns) == 2 else ast.unparse(patterns[-1])
        case ast.BoolOp(op=op, values=values):
            other = ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            yield node, f"({ast.unparse(other)})"
            for i in range(len(values)):
                rest = values[:i] + values[i + 1 :]
                yield node, f"({ast.unparse(rest[0] if len(rest) == 1 else ast.BoolOp(op, rest))})"
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in _OTHER:
            yield node, ast.unparse(ast.Compare(left, [_OTHER[type(operator)]()], [right]))
        case ast.Constant(value=bool(value)):
            yield node, str(not value)
        case ast.Constant(value=int(value)):
            yield node, str(value + 1)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield node, f"({ast.unparse(operand)})"
        case ast.Set(elts=items) | ast.Tuple(elts=items, ctx=ast.Load()) | ast.List(elts=items, ctx=ast.Load()) if (
            len(items) > 1
        ):
            for i in range(min(3, len(items))):
                rest = items[:i] + items[i + 1 :]
                kind = ast.Set(rest) if isinstance(node, ast.Set) else type(node)(rest, ast.Load())
                yield node, f"({ast.unparse(kind)})" if isinstance(node, ast.Tuple) else ast.unparse(kind)
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield node, "return None"
            if isinstance(value, ast.BoolOp | ast.Compare) or (
                isinstance(value, ast.Call) and ast.unparse(value.func) in ("any", "all")
            ):
                yield node, "return True"
                yield node, "return False"
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Continue():
            yield node, "pass"
        case ast.Call(func=ast.Name(id="any" | "all" as name), args=args):
            yield node, f"{'all' if name == 'any' else 'any'}({', '.join(map(ast.unparse, args))})"


def _replaced(lines: list[bytes], old: Any, new: str) -> str | None:
    first, last = old.lineno - 1, old.end_lineno - 1
    head, tail = lines[first][: old.col_offset], lines[last][old.end_col_offset :]
    # What spans lines becomes one line; the lines after it keep their numbers.
    text = b"\n".join(
        [*lines[:first], head + new.encode() + tail, *[b""] * (last - first), *lines[last + 1 :]]
    ).decode()
    try:
        compile(text, "edited", "exec")
    except SyntaxError:
        return None
    return text


class _Edited(MetaPathFinder, SourceLoader):
    """Imports one module from an edited text."""

    def __init__(self, edit: Edit) -> None:
        self.edit = edit
        self.name = "fusegen." + edit.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != self.name:
            return None
        inside = [str((ROOT / self.edit.path).parent)] if self.edit.path.endswith("__init__.py") else None
        spec = importlib.util.spec_from_loader(name, self, origin=self.edit.path, is_package=inside is not None)
        if spec is not None and inside:
            spec.submodule_search_locations = inside
        return spec

    def get_filename(self, fullname: str) -> str:
        return str(ROOT / self.edit.path)

    def get_data(self, path: str) -> bytes:
        return self.edit.text.encode()

    def path_stats(self, path: str) -> dict[str, Any]:
        raise OSError("no byte code")


def killed_by(edit: Edit | None, rewrites: int, known: frozenset[int] = frozenset()) -> str | frozenset[int]:
    """The test that notices an edit, or "". Without an edit: the rewrites that are wrong as it is."""
    if edit is not None:
        sys.meta_path.insert(0, _Edited(edit))
    logging.disable(logging.CRITICAL)
    try:
        cases, after = _module("test_cases"), _module("test_cases_after")
        for path in cases.CASES:
            cases.test_case(path)
        for path in after.MATCHED:
            after.test_after(path)
        _pytest()
        from harness import WRONG, pool, verdict

        names = pool(1, 8)
        wrong = {number for number in range(rewrites) if verdict(1, number, names).verdict in WRONG}
        if edit is None:
            return frozenset(wrong)
        return f"rewrite {min(wrong - known)}" if wrong - known else ""
    except BaseException as error:
        if edit is None:
            raise
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80] if str(error).strip() else ''}"


def _pytest() -> None:
    import pytest

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = pytest.main(
            [
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:randomly",
                "-k",
                "not every_keyword",
                str(TESTS / "test_plan.py"),
                str(TESTS / "test_rows.py"),
            ]
        )
    assert found == 0, "test_plan or test_rows"


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _child(pipe: Any, edit: Edit | None, rewrites: int, known: frozenset[int]) -> None:
    warnings.simplefilter("ignore")
    signal.alarm(_SECONDS)
    pipe.send(killed_by(edit, rewrites, known))
    pipe.close()
    os._exit(0)


def judge(chosen: list[Edit], rewrites: int, jobs: int, known: frozenset[int]) -> Iterator[tuple[Edit, str]]:
    """Each edit and what killed it, "" for none."""
    context = multiprocessing.get_context("fork")
    waiting, running = list(enumerate(chosen)), []
    while waiting or running:
        while waiting and len(running) < jobs:
            _, edit = waiting.pop(0)
            ours, theirs = context.Pipe(False)
            process = context.Process(target=_child, args=(theirs, edit, rewrites, known))
            process.start()
            theirs.close()
            running.append((process, ours, edit))
        time.sleep(0.02)
        for each in [each for each in running if not each[0].is_alive() or each[1].poll()]:
            process, ours, edit = each
            try:
                yield edit, ours.recv()
            except EOFError:
                yield edit, "it ended the process or took too long"
            process.join()
            running.remove(each)


def main() -> int:
    """Print the survivors and the score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", type=int, default=None, help="the number of one edit of the sample")
    parser.add_argument("--grep", default="", help="only edits whose line holds this")
    parser.add_argument("--rewrites", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--record", action="store_true", help="write the score into docs/reliability.md")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    every = [edit for path in files() for edit in edits(path) if options.grep in str(edit)]
    sample = random.Random(seed).sample(every, min(options.count, len(every)))
    if options.only is not None:
        sample = [sample[options.only]]
    print(f"seed {seed}: {len(sample)} of {len(every)} edits of {len(files())} files", flush=True)
    # What every child needs, but nothing that it may have to import anew.
    import libcst  # noqa: F401
    import pytest  # noqa: F401
    import torch
    from transformers.loss import loss_utils  # noqa: F401

    torch.set_num_threads(1)
    known = _known(options.rewrites)
    start, survivors = time.time(), 0
    for number, (edit, killer) in enumerate(judge(sample, options.rewrites, options.jobs, known)):
        if not killer:
            survivors += 1
            print(f"survived {edit}", flush=True)
        elif options.only is not None:
            print(f"{number} killed by {killer}: {edit}")
    score = f"{len(sample) - survivors} of {len(sample)} edits killed, {survivors} survived"
    print(f"{score}, {time.time() - start:.0f} s")
    if options.record:
        sys.path.insert(0, str(ROOT / "benchmarks"))
        from metamorphic import record

        record("edits", seed, f"{score} (of {len(every)})")
    return survivors > 0


def _known(rewrites: int) -> frozenset[int]:
    """The rewrites that are wrong without an edit."""
    ours, theirs = multiprocessing.get_context("fork").Pipe(False)
    process = multiprocessing.get_context("fork").Process(target=_child, args=(theirs, None, rewrites, frozenset()))
    process.start()
    theirs.close()
    found: frozenset[int] = ours.recv()
    process.join()
    return found


if __name__ == "__main__":
    sys.exit(main())
