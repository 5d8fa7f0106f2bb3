"""Environments in which something is missing, too old or broken: a clear error or a clean skip, in a real process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

ROOT = Path(__file__).parents[2]

INSTALL = """
import sys
import fusegen
try:
    report = fusegen.install()
except Exception as error:
    print(f"{type(error).__name__}: {error}")
else:
    print(len(report.tiers), len(report.pending) > 200, len(report.refused), fusegen.audit()["backend"]["name"])
print([type(finder).__name__ for finder in sys.meta_path if type(finder).__name__ == "ImportWatcher"])
"""


@pytest.fixture
def without(tmp_path: Path):
    """Runs a program in an environment that has everything but the packages named."""

    def run(*hidden: str, program: str = INSTALL) -> list[str]:
        site = tmp_path / "site"
        site.mkdir()
        (site / "fusegen").symlink_to(ROOT)
        for name in ("torch", "transformers"):
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            for entry in Path(spec.origin).parents[1].iterdir():
                link = site / entry.name
                if not link.exists() and not entry.name.startswith(("fusegen", *hidden)) and entry.suffix != ".pth":
                    link.symlink_to(entry)
        # Without -S the interpreter would add its own packages.
        command = [sys.executable, "-S", "-c", program]
        path = {"PYTHONPATH": str(site), "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, env=path, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_without_torch_the_error_says_what_to_install(without):
    assert without("torch") == [
        "ModuleNotFoundError: fusegen.install needs torch, which is not installed: pip install 'fusegen[runtime]'",
        "[]",
    ]


def test_without_transformers_the_error_says_so(without):
    assert without("transformers") == [
        "ModuleNotFoundError: no package named 'transformers': install it first",
        "[]",
    ]


def test_without_triton_everything_is_there_with_the_kernels_of_torch(without):
    assert without("triton") == ["0 True 0 torch", "['ImportWatcher']"]


def test_the_oldest_release_is_that_of_the_package_metadata():
    from fusegen.contract.package import OLDEST_TRANSFORMERS

    assert f'"transformers>={OLDEST_TRANSFORMERS}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
