"""Runs `fusegen` in this process, from an empty working directory."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fusegen.cli import cli


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; no pyproject.toml above it has a [tool.fusegen] table."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def fusegen(work: Path) -> Callable[..., Result]:
    def run(*arguments: object, **options: object) -> Result:
        return CliRunner().invoke(cli, [str(each) for each in arguments], **options)  # type: ignore[arg-type]

    return run


@pytest.fixture
def cut_sdist(tree: Path, tmp_path: Path) -> Path:
    """An sdist of `tree` that was cut off after its llama."""
    sdist = tmp_path / "cut.tar.gz"
    (tree / "noise.txt").write_bytes(os.urandom(200_000))
    with tarfile.open(sdist, "w:gz") as archive:
        for path in ("__init__.py", "models/llama/modeling_llama.py", "noise.txt"):
            archive.add(tree / path, f"transformers-5.99.0/src/transformers/{path}")
    sdist.write_bytes(sdist.read_bytes()[:100_000])
    return sdist
