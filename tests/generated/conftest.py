"""A process in which nothing is installed, before each test and after it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch):
    from fusegen.runtime import uninstall
    from fusegen.runtime.guards import reset_coverage

    monkeypatch.delenv("FUSEGEN_FUSE", raising=False)
    uninstall()
    reset_coverage()
    yield
    uninstall()
    reset_coverage()
