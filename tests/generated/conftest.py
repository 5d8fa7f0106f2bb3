"""A process in which nothing is installed, before each test and after it; and one thread for the tiny models."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch):
    from fusegen.runtime import uninstall
    from fusegen.runtime.calls import reset_coverage

    monkeypatch.delenv("FUSEGEN_FUSE", raising=False)
    uninstall()
    reset_coverage()
    yield
    uninstall()
    reset_coverage()


@pytest.fixture(autouse=True)
def _one_thread():
    """More would only wait for each other: three times as long, and far longer where tests run side by side."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
