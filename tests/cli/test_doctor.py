"""`fusegen doctor`, in real processes."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
pytest.importorskip("transformers", reason="needs transformers (the extra `runtime`)")

FUSEGEN = [sys.executable, "-c", "import sys; from fusegen.cli import main; main()", "doctor"]


def doctor(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    return subprocess.run([*FUSEGEN, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_what_install_would_do_here() -> None:
    done = doctor("--format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["schema_version"] == 1
    assert found["problem"] is None
    assert found["versions"]["python"] == sys.version.split()[0]
    assert found["versions"]["transformers"] == importlib.metadata.version("transformers")
    assert found["audit"]["pending"]
    assert found["audit"]["patched"] == []


def test_a_release_that_is_too_old_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers/__init__.py").touch()
    (tmp_path / "transformers-4.40.0.dist-info").mkdir()
    (tmp_path / "transformers-4.40.0.dist-info/METADATA").write_text("Name: transformers\nVersion: 4.40.0\n")
    done = doctor(path=tmp_path)
    assert done.returncode == 2
    assert "transformers       4.40.0\n" in done.stdout
    assert "Nothing can be installed. ImportError: transformers 4.40.0 is older than 4.56" in done.stdout


def test_a_process_that_dies_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("import os, sys; print('no CUDA', file=sys.stderr); os._exit(3)")
    done = doctor(path=tmp_path)
    assert done.returncode == 2
    assert done.stdout.endswith("Nothing can be installed. no CUDA\n")


def test_another_stock_loss_is_refused_and_named(tmp_path: Path) -> None:
    """The installed transformers with one line of its losses changed."""
    spec = importlib.util.find_spec("transformers")
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent
    for folder in (Path(), Path("loss")):
        (tmp_path / "transformers" / folder).mkdir()
        for entry in (installed / folder).iterdir():
            if entry.name not in ("loss", "loss_utils.py", "__pycache__"):
                (tmp_path / "transformers" / folder / entry.name).symlink_to(entry)
    losses = (installed / "loss/loss_utils.py").read_text(encoding="utf-8")
    changed = losses.replace("loss = loss / num_items_in_batch", "loss = loss / num_items_in_batch.clamp(min=1)")
    (tmp_path / "transformers/loss/loss_utils.py").write_text(changed, encoding="utf-8")
    done = doctor(path=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "   1 FG521 the stock loss of the installed transformers is written otherwise" in done.stdout


def test_what_is_refused_makes_the_status_1_and_is_counted(tmp_path: Path) -> None:
    """A patcher that is there before fusegen, as a sitecustomize would put it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types\n"
        "if 'audit' not in sys.orig_argv[2]: raise ImportError\n"
        "theirs = types.ModuleType('liger_kernel.llama')\n"
        "exec('def lce_forward(self): return None', vars(theirs))\n"
        "from transformers import LlamaForCausalLM\n"
        "LlamaForCausalLM.forward = theirs.lce_forward\n"
    )
    done = doctor(path=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "   1 FG502 somebody else has patched the method already: liger_kernel.llama.lce_forward\n" in done.stdout
    assert "are verified for transformers" in done.stdout
