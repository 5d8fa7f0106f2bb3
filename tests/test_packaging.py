"""What ships. A folder that is missing from the package list is missing from the wheel without a word."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import fusegen

ROOT = Path(__file__).parents[1]
STAYS_HOME = {"benchmarks", "build", "dist", "docs", "tests"}

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PYPROJECT["tool"]["setuptools"]["packages"]


def folders_with_python() -> set[str]:
    """Every folder below the root that holds Python files and is meant to ship, as a dotted name."""
    found = set()
    for path in ROOT.rglob("*.py"):
        parts = path.parent.relative_to(ROOT).parts
        if parts and parts[0] not in STAYS_HOME and not any(part.startswith(".") for part in parts):
            found.add(_without_models(".".join(("fusegen", *parts))))
    return found


def _without_models(folder: str) -> str:
    """The folders below generated/, one a model, ship as data of that package."""
    return "fusegen.generated" if folder.startswith("fusegen.generated.") else folder


def test_every_folder_with_python_ships() -> None:
    assert folders_with_python() <= set(PACKAGES)


def test_every_package_that_ships_exists() -> None:
    for package in PACKAGES:
        assert (ROOT.joinpath(*package.split(".")[1:]) / "__init__.py").is_file(), package
    assert len(PACKAGES) == len(set(PACKAGES))


def test_nothing_but_the_public_face_lies_at_the_root() -> None:
    assert sorted(path.name for path in ROOT.glob("*.py")) == ["__init__.py", "__main__.py"]


def test_the_version_stands_in_one_place() -> None:
    assert importlib.metadata.version("fusegen") == fusegen.__version__
    assert "version" in PYPROJECT["project"]["dynamic"]


def test_pins_are_exact_and_without_a_local_suffix() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert pins["torch"] == "2.13.0"
    assert not any("+" in version for version in pins.values())
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    extras = PYPROJECT["project"]["optional-dependencies"]
    wanted = [*PYPROJECT["project"]["dependencies"], *extras["runtime"], *extras["dev"]]
    assert {re.split(r"[<>=!~\[ ]", requirement)[0].lower() for requirement in wanted} <= names


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fusegen.nothing  # noqa: B018
    assert {"install", "uninstall", "fused", "linear_cross_entropy"} <= set(dir(fusegen))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="needs setuptools in this environment")
def test_the_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    checkout = tmp_path / "any name"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        ".",
    ]
    subprocess.run(command, cwd=checkout, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    folders = {name.rpartition("/")[0].replace("/", ".") for name in names}
    assert {_without_models(folder) for folder in folders} == set(PACKAGES)
    assert {"fusegen/__init__.py", "fusegen/__main__.py", "fusegen/py.typed", "fusegen/cli/scan.py"} <= names
    templates = {f"fusegen/templates/{path.name}" for path in (ROOT / "templates").glob("*.*")}
    assert templates <= names
