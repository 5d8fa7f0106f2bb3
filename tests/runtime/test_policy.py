"""Who decides whether to fuse: a block, then `install`, then the environment, then the default."""

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
    monkeypatch.delenv("FUSEGEN_FUSE", raising=False)
    policy.set(None)


def test_training_is_the_default():
    assert policy.fuse == "training"
    assert policy.refusal(training=True) is None
    assert policy.refusal(training=False) == "FG511"


def test_always_and_never():
    for fuse, refusal in (("always", None), ("never", "FG511")):
        policy.set(fuse)
        assert policy.refusal(True) == policy.refusal(False) == refusal


def test_precedence(monkeypatch):
    monkeypatch.setenv("FUSEGEN_FUSE", "never")
    policy.set(None)
    assert policy.fuse == "never"
    policy.set("training")
    assert policy.fuse == "training"
    with fused():
        assert policy.fuse == "always"
        with fused(fuse="never"):
            assert policy.fuse == "never"
        assert policy.fuse == "always"
    assert policy.fuse == "training"


def test_a_block_is_left_after_an_error():
    with pytest.raises(KeyError), fused(fuse="never"):
        raise KeyError
    assert policy.fuse == "training"


def test_a_block_is_of_one_thread():
    seen = []
    with fused(fuse="never"):
        thread = Thread(target=lambda: seen.append(policy.fuse))
        thread.start()
        thread.join()
    assert seen == ["training"]


def test_a_choice_in_the_place_of_a_model_is_an_error():
    with pytest.raises(TypeError, match="expected a model, got 'never'"), fused("never"):
        pass


def test_unknown_choices_are_errors(monkeypatch):
    with pytest.raises(ValueError, match="fuse: expected one of training, always, never, got 'sometimes'"):
        policy.set("sometimes")
    with pytest.raises(ValueError, match="got 'sometimes'"), fused(fuse="sometimes"):
        pass
    monkeypatch.setenv("FUSEGEN_FUSE", "on")
    policy.set(None)
    with pytest.raises(ValueError, match="FUSEGEN_FUSE"):
        _ = policy.fuse
