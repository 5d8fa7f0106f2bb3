"""Runs `fusegen` in this process, from an empty working directory."""

from __future__ import annotations

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
