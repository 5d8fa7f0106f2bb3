"""A pytest plugin: is the fused forward of a class the original's? Nothing is imported until a test asks.

    def test_my_model_is_fused_right(fused_parity):
        fused_parity(LlamaForCausalLM)

Without `--fusegen-parity` such tests are skipped. `--fusegen-generated` (or `fusegen_generated` in the ini file)
names the generated tree; by default that is the one that comes with fusegen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from concurrent.futures import Executor

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

    The comparison has a process of its own, so that what this one has patched or imported does not matter.
    """
    if not request.config.getoption(OPTION):
        pytest.skip(f"needs {OPTION}")

    def check(model_class: type) -> None:
        generated, checks = _generated(request.config), request.config.getoption("--fusegen-checks")
        report = fused_parity_process.submit(_report, generated, _id(model_class), checks).result()
        if isinstance(report, str):
            pytest.fail(report, pytrace=False)
        (result,) = report["classes"]
        if result["outcome"] != "verified":
            pytest.fail(_explained(result), pytrace=False)

    return check


def _id(model_class: type) -> str:
    return f"{model_class.__module__.split('.')[-2]}.{model_class.__qualname__}"


def _generated(config: pytest.Config) -> Path:
    chosen = config.getoption("--fusegen-generated")
    if chosen:
        return Path(chosen)
    written = str(config.getini("fusegen_generated"))
    return config.rootpath / written if written else Path(__file__).parents[1] / "generated"


def _report(generated: Path, name: str, checks: str) -> dict[str, Any] | str:
    """What `fusegen verify` reports of a class, as JSON data; a string says why it cannot be verified."""
    from fusegen.verify.rendering import document
    from fusegen.verify.targets import read_targets

    try:
        targets = read_targets(generated, (name,))
    except (OSError, LookupError, ValueError) as error:
        return str(error)
    from fusegen.verify.verification import verify

    return document(verify(targets, generated, checks=checks))


def _explained(result: dict[str, Any]) -> str:
    lines = [f"{result['id']}: {result['outcome']} {result['reason']}".rstrip()]
    lines += [
        f"  {check['check']}: {check['outcome']} {check['quantity']} {check['detail']}: original {check['original']}, "
        f"patched {check['patched']} (error {check['error']}, allowed {check['tolerance']})"
        for check in result["checks"]
        if check["outcome"] in ("different", "not fused")
    ]
    return "\n".join([*lines, result["lines"]]).rstrip()
