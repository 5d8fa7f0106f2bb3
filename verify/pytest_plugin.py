"""A pytest plugin: is the fused forward of a class the original's? Nothing is imported until a test asks.

    def test_my_model_is_fused_right(fused_parity):
        fused_parity(LlamaForCausalLM)

Without `--fusegen-parity` such tests are skipped. `--fusegen-generated` (or `fusegen_generated` in the ini file)
names the generated tree; by default that is the one that comes with fusegen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from fusegen.verify.targets import Target

OPTION = "--fusegen-parity"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fusegen")
    group.addoption(OPTION, action="store_true", help="run the tests that compare fused forwards with their originals")
    group.addoption("--fusegen-generated", metavar="DIR", help="the generated tree, if not the one of fusegen itself")
    group.addoption("--fusegen-checks", choices=("core", "all"), default="core", help="which checks (default: core)")
    parser.addini("fusegen_generated", "the generated tree, relative to this file", type="string", default="")


@pytest.fixture(scope="session")
def fused_parity_process() -> Iterator[Executor]:
    """A process that loads torch and transformers once for all tests and patches nothing: each class gets another."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        yield process


@pytest.fixture
def fused_parity(request: pytest.FixtureRequest, fused_parity_process: Executor) -> Callable[[type], None]:
    """`fused_parity(model_class)` fails the test if the class's fused forward differs from the original's.

    The class is one of the generated tree, or a subclass without a forward of its own, whose module can be imported.
    The comparison has a process of its own, so that what this one has patched or imported does not matter.
    """
    if not request.config.getoption(OPTION):
        pytest.skip(f"needs {OPTION}")

    def check(model_class: type) -> None:
        generated, checks = _generated(request.config), request.config.getoption("--fusegen-checks")
        lineage = _lineage(model_class)
        report = fused_parity_process.submit(_report, generated, lineage, checks).result()
        if isinstance(report, str):
            pytest.fail(report, pytrace=False)
        (result,) = report["classes"]
        if result["outcome"] != "verified":
            pytest.fail(_explained(".".join(lineage[0]), result), pytrace=False)

    return check


def _lineage(model_class: type) -> list[tuple[str, str]]:
    """Module and name of a class and of its bases, up to the one whose forward it has."""
    order = model_class.__mro__
    owner = next((each for each in order if "forward" in vars(each)), model_class)
    return [(each.__module__, each.__qualname__) for each in order[: order.index(owner) + 1]]


def _generated(config: pytest.Config) -> Path:
    chosen = config.getoption("--fusegen-generated")
    if chosen:
        return Path(chosen)
    written = str(config.getini("fusegen_generated"))
    return config.rootpath / written if written else Path(__file__).parents[1] / "generated"


def _report(generated: Path, lineage: list[tuple[str, str]], checks: str) -> dict[str, Any] | str:
    """What `fusegen verify` reports of a class, as JSON data; a string says why it cannot be verified."""
    from fusegen.verify.rendering import document
    from fusegen.verify.targets import TargetError, read_targets

    try:
        target = _target(read_targets(generated), lineage)
        if isinstance(target, str):
            return f"{generated} {target}"
        from fusegen.verify.verification import verify

        return document(verify((target,), generated, checks=checks))
    except TargetError as error:
        return str(error)


def _target(targets: tuple[Target, ...], lineage: list[tuple[str, str]]) -> Target | str:
    """The target whose forward a class has, to be compared with that class built in its place; else why not."""
    (module, name), owner = lineage[0], lineage[-1]
    known = {(each.source_module, each.class_name): each for each in targets}
    target = next((known[each] for each in lineage if each in known), None)
    if target is None:
        inherits = f", whose forward {module}.{name} inherits" if len(lineage) > 1 else ""
        return (
            f"holds no fused forward for {'.'.join(owner)}{inherits}. Only classes that 'fusegen emit' has written one "
            "for, and subclasses without a forward of their own, can be compared."
        )
    if lineage[0] in known:
        return target
    if "<locals>" in name:
        return f"cannot be compared with {module}.{name}: define it at the top level of a module, to be imported anew."
    return replace(target, subject=f"{module}:{name}", verified_for=None)


def _explained(name: str, result: dict[str, Any]) -> str:
    lines = [f"{name}: {result['outcome']} {result['reason']}".rstrip()]
    lines += [
        f"  {check['check']}: {check['outcome']} {check['quantity']} {check['detail']}: original {check['original']}, "
        f"patched {check['patched']} (error {check['error']}, allowed {check['tolerance']})"
        for check in result["checks"]
        if check["outcome"] in ("different", "not fused")
    ]
    return "\n".join([*lines, result["lines"]]).rstrip()
