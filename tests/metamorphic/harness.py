"""One mutant: a rewritten forward, what fusegen makes of it, and whether both do the same.

verdict(Mutant(seed=1, number=17))   ->  Outcome("equal" | "unfused" | "refused" | "wrong" | "crash" | ...)
"""

from __future__ import annotations

import ast
import copy
import functools
import random
import re
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import rewrite_change  # noqa: F401 - registers what changes it
import rewrite_keep  # noqa: F401 - registers what keeps the meaning
import torch
from rewrite_draft import CHANGE, KEEP, Draft, Unfit, mutate
from sources import GIVEN, Source, cases, installed, source
from stubs import Ran, Setting, difference, emission, fused_methods, labels, load, run

from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.pipeline import read_file
from fusegen.codegen.records import Site

# equal: it ran fused and did the same. unfused: a guard refused each call. refused: no function was generated.
# wrong: fused, and something else came out. silent: only the original raises. crash: only the fused function raises,
# or fusegen failed.
# bad: not of fusegen: a rewrite that should have kept the numbers did not.
GOOD, WRONG = ("equal", "unfused", "refused"), ("wrong", "silent", "crash", "bad")
_TRIES = 40
_AS_IT_IS = "wrong as it is"
# Where the original rounds its logits to 16 bits, the fused loss does not: as `fusegen verify` has it.
_LOW, _ROUNDED = re.compile(r"autocast|bfloat16|half\("), 2e-2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one mutant. `what` says why; `text` is its module, `did` what was rewritten."""

    number: int
    verdict: str
    what: str = ""
    source: str = ""
    did: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Base:
    """A source that runs fused as it is: its module and where its parts are."""

    source: Source
    module: ast.Module
    site: Site
    stock: tuple[Ran, ...]


class Unusable(Exception):
    """A source that does not run on stub modules."""


def pool(seed: int, size: int) -> list[str]:
    """The sources that a run draws from: every case, and `size` forwards of transformers (0: all)."""
    names = installed()
    chosen = random.Random(seed).sample(names, size) if 0 < size < len(names) else names
    return [*cases(), *sorted(chosen)]


@functools.cache
def base(name: str) -> Base | str:
    """A source, ready to be rewritten; the reason why it cannot be."""
    try:
        return _base(source(name))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _base(found: Source) -> Base | str:
    module = ast.parse(found.text)
    text = ast.unparse(module)
    module = ast.parse(text)
    sites = [
        each
        for each in read_file("models/bird/modeling_bird.py", text, DEFAULT_MAPPING).sites
        if each.verdict == "match" and (found.owner is None or each.class_name == found.owner)
    ]
    if not sites:
        raise Unusable("it is no match where it is cut out")
    if found.chain is not None and tuple(step.op for step in sites[-1].losses[0].chain) != found.chain:
        raise Unusable("another chain is found where it is cut out")
    site = sites[-1]
    world = load(text)
    methods = fused_methods(world, emission(world)).get(site.class_name)
    if not methods:
        raise Unusable("it is not emitted")
    setting = _setting(found.name)
    stock = run(world, site.class_name, None, setting)
    fused = run(world, site.class_name, methods, setting)
    if stock.raised or not fused.fused:
        raise Unusable(f"{stock.raised or 'unfused'}: {stock.message[:120] or fused.outcomes}")
    if (other := difference(stock, fused)) is not None:
        return f"{_AS_IT_IS}: {other}"
    return Base(found, module, site, (stock,))


def _setting(name: str) -> Setting:
    return GIVEN.get(name.removeprefix("case "), Setting())


def draft(found: Base, rng: random.Random) -> Draft:
    """A copy of a source to rewrite, with the parts that mutations aim at."""
    module = copy.deepcopy(found.module)
    loss = found.site.losses[0]
    assert loss.head is not None
    owner = _class(module, found.site.class_name)
    function = [each for each in owner.body if isinstance(each, ast.FunctionDef) and each.name == found.site.method][-1]
    head, last = _at(function, loss.head.line), _at(function, loss.line)
    call = next(
        each
        for each in ast.walk(last)
        if isinstance(each, ast.Call) and each.lineno == loss.line and each.col_offset == loss.column
    )
    target = head.targets[0] if isinstance(head, ast.Assign) else None
    parameters = [each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)]
    operands = " ".join(dict.fromkeys(value for step in loss.chain for _, value in step.arguments if " " not in value))
    result = last.targets[0] if isinstance(last, ast.Assign) else None
    outputs, body = _body(function)
    names = {
        "head": loss.head.expression,
        "linear": loss.head.linear,
        "composite": "" if loss.head.linear == loss.head.expression else "yes",
        "hidden": loss.head.hidden if loss.head.hidden.isidentifier() else "",
        "operands": operands,
        "logits": target.id if isinstance(target, ast.Name) else "",
        "loss": result.id if isinstance(result, ast.Name) else "",
        "labels": loss.label_source
        if loss.label_source in parameters
        else next((each for each in parameters if "label" in each), ""),
        "loss_call": ast.unparse(call.func),
        "outputs": outputs,
        "body": body,
    }
    return Draft(module, owner, function, head, last, names, rng)


def _class(module: ast.Module, name: str) -> ast.ClassDef:
    return [each for each in ast.walk(module) if isinstance(each, ast.ClassDef) and each.name == name][-1]


def _at(function: ast.FunctionDef, line: int) -> ast.stmt:
    """The innermost statement around a line."""
    around = [
        each
        for each in ast.walk(function)
        if isinstance(each, ast.stmt) and each.lineno <= line <= (each.end_lineno or 0)
    ]
    return around[-1]


def _body(function: ast.FunctionDef) -> tuple[str, str]:
    """The name of the inner model's output, and the inner model."""
    for each in ast.walk(function):
        match each:
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.Call(func=ast.Attribute(value=ast.Name(id="self")) as body)
            ):
                return name, ast.unparse(body)
    return "", "self.model"


def verdict(seed: int, number: int, names: list[str]) -> Outcome:
    """Make and judge the mutant of a seed and a number; it depends on these and on the sources alone."""
    rng = random.Random(f"{seed} {number}")
    for _ in range(_TRIES):
        name = rng.choice(names)
        found = base(name)
        if isinstance(found, str):
            if found.startswith(_AS_IT_IS):
                return Outcome(number, "wrong", found, name)
            continue
        keep = rng.random() < 0.35
        kinds = KEEP if keep else CHANGE
        chosen = [
            rng.choice(
                sorted((kinds if first else KEEP | CHANGE if not keep else KEEP).items(), key=lambda item: item[0])
            )
            for first in [True, *([False] * rng.choice([0, 0, 0, 1, 1, 2]))]
        ]
        if not keep:
            rng.shuffle(chosen)
        rewritten = draft(found, rng)
        try:
            did = tuple(mutate(rewritten, chosen))
            text = ast.unparse(ast.fix_missing_locations(rewritten.module))
            compile(text, name, "exec")
            load(text)
        except (Unfit, SyntaxError, ValueError, StopIteration, IndexError, NameError, AttributeError, TypeError):
            continue
        settings = _settings(found, rng)
        what, why = judged(found, text, settings, keep)
        return Outcome(number, what, why, name, did, text)
    return Outcome(number, "bad", f"no mutant in {_TRIES} tries")


def _settings(found: Base, rng: random.Random) -> list[Setting]:
    """The run of the source, and one more with another value of something."""
    first = _setting(found.source.name)
    others: list[tuple[dict[str, object], dict[str, object]]] = [
        ({}, {"labels": labels().clamp(min=0)} if "labels" in found.stock[0].parameters else {})
    ]
    for name, value in found.stock[0].read.items():
        if isinstance(value, bool):
            others.append(({name: not value}, {}))
        elif isinstance(value, int | float) and not name.endswith(("size", "dim", "_layers", "_heads")):
            others.append(({name: rng.choice([1.5, 3, 2])}, {}))
    if "kwargs" in found.stock[0].parameters:
        others += [({}, {"num_items_in_batch": 5}), ({}, {"ignore_index": 3}), ({}, {"shift_labels": labels(1)})]
    if "return_dict" in found.stock[0].parameters:
        others.append(({}, {"return_dict": rng.choice([True, False])}))
    config, arguments = rng.choice(others)
    return [first, Setting(first.config | config, first.arguments | arguments, seed=1)]


def judged(found: Base, text: str, settings: list[Setting] | None = None, keep: bool = False) -> tuple[str, str]:
    """The verdict on a rewritten source, and why. The original and the fused function have a world each."""
    owner, settings = found.site.class_name, settings or [_setting(found.source.name)]
    stock_world = load(text)
    stock = [run(stock_world, owner, None, setting) for setting in settings]
    if keep and (other := difference(found.stock[0], stock[0])) is not None:
        return "bad", f"the rewrite does not keep the numbers: {other}"
    try:
        world = load(text)
        generated = emission(world)
        if generated.failures:
            return "crash", generated.failures[0].message
        methods = fused_methods(world, generated).get(owner)
    except Exception:
        return "crash", traceback.format_exc(limit=-3)
    if not methods:
        codes = sorted({each.code for each in generated.unmatched if each.class_name == owner})
        return "refused", " ".join(codes) or "no site"
    fused = [run(world, owner, methods, setting) for setting in settings]
    tolerance = _ROUNDED if _LOW.search(text) else 2e-5
    for setting, one, two in zip(settings, stock, fused, strict=True):
        other = difference(one, two, tolerance)
        if other is not None:
            verdict = "silent" if one.raised else "crash" if two.raised else "wrong"
            return verdict, f"{other}; config {setting.config}, {sorted(setting.arguments)}, {two.outcomes}"
    if keep:
        site = next(each for each in generated.sites if each.class_name == owner)
        if [step.op for step in site.losses[0].chain] != [step.op for step in found.site.losses[0].chain]:
            return "wrong", f"another chain: {[step.op for step in site.losses[0].chain]}"
    return ("equal" if any(each.fused for each in fused) else "unfused"), ""


def _share(seed: int, numbers: range, names: list[str]) -> list[Outcome]:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    return [verdict(seed, number, names) for number in numbers]


def judge(seed: int, count: int, size: int, jobs: int) -> Iterator[Outcome]:
    """The outcomes of `count` mutants, in no particular order."""
    names = pool(seed, size)
    shares = [range(start, min(start + 50, count)) for start in range(0, count, 50)]
    if jobs == 1:
        for share in shares:
            yield from _share(seed, share, names)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as workers:
        for future in [workers.submit(_share, seed, share, names) for share in shares]:
            yield from future.result()


def counted(outcomes: list[Outcome]) -> str:
    """The verdicts in one line."""
    verdicts = Counter(each.verdict for each in outcomes)
    return ", ".join(f"{verdicts[name]} {name}" for name in (*GOOD, *WRONG))
