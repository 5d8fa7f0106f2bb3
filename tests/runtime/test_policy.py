"""Who decides whether to fuse: a context, then `install`, then the environment, then the default."""

from __future__ import annotations

from threading import Thread

import pytest

pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")

from fusegen.runtime import fused
from fusegen.runtime.policy import policy


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.delenv("FUSEGEN_FUSE", raising=False)
    policy.set(None)
    yield
    policy.set(None)


def test_training_is_the_default():
    assert policy.fuse == "training"
    assert policy.allows(training=True)
    assert not policy.allows(training=False)


def test_always_and_never():
    for fuse, allowed in (("always", True), ("never", False)):
        policy.set(fuse)
        assert policy.allows(True) is policy.allows(False) is allowed


def test_precedence(monkeypatch):
    monkeypatch.setenv("FUSEGEN_FUSE", "never")
    assert policy.fuse == "never"
    policy.set("training")
    assert policy.fuse == "training"
    with fused():
        assert policy.fuse == "always"
        with fused(fuse="never"):
            assert policy.fuse == "never"
        assert policy.fuse == "always"
    assert policy.fuse == "training"


def test_a_context_is_left_after_an_error():
    with pytest.raises(KeyError), fused(fuse="never"):
        raise KeyError
    assert policy.fuse == "training"


def test_a_context_is_of_one_thread():
    seen = []
    with fused(fuse="never"):
        thread = Thread(target=lambda: seen.append(policy.fuse))
        thread.start()
        thread.join()
    assert seen == ["training"]


def test_unknown_choices_are_errors(monkeypatch):
    with pytest.raises(ValueError, match="fuse: expected one of training, always, never, got 'sometimes'"):
        policy.set("sometimes")
    with pytest.raises(ValueError, match="got 'sometimes'"), fused(fuse="sometimes"):
        pass
    monkeypatch.setenv("FUSEGEN_FUSE", "on")
    with pytest.raises(ValueError, match="FUSEGEN_FUSE"):
        _ = policy.fuse
