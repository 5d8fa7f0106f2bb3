"""`fusegen run`, in real processes: scripts, modules, launchers, and what must not change for the others."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

FUSEGEN = [sys.executable, "-c", "import sys; from fusegen.cli import main; main()"]

# What launchers start instead of a script: the installed `fusegen`, wherever that is.
ENTRY = "import sys\nfrom fusegen.cli import main\nsys.exit(main())\n"

LOOK = dedent(
    """
    import json, os, sys
    waits = any(type(finder).__name__ == "FirstModel" for finder in sys.meta_path)
    print(json.dumps([sys.argv[1:], waits, [name for name in ("torch", "fusegen") if name in sys.modules]]))
    """
)

TRAIN = dedent(
    """
    import sys
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = dict(hidden_size=16, intermediate_size=24, num_attention_heads=2, num_key_value_heads=2)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, num_hidden_layers=1, **sizes)).train()
    batch = torch.arange(8)[None]
    output = model(input_ids=batch, labels=batch)
    output.loss.backward()
    print("fused" if output.logits is None else "unfused", sys.argv[1:])
    """
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "look.py").write_text(LOOK)
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "entry.py").write_text(ENTRY)
    return tmp_path


def run(command: list[str], folder: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("FUSEGEN", "PYTHONPATH")}
    done = subprocess.run(
        command, cwd=folder, env=clean | environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "program",
    [["look.py", "--lr", "1"], ["-m", "look", "--lr", "1"], [sys.executable, "look.py", "--lr", "1"]],
    ids=["script", "module", "program"],
)
@pytest.mark.parametrize("separated", [True, False])
def test_a_program_gets_its_arguments_and_waits_for_a_model(program: list[str], separated: bool, folder: Path) -> None:
    found = run([*FUSEGEN, "run", *(["--"] if separated else []), *program], folder)
    assert found == '[["--lr", "1"], true, []]\n'


def test_a_python_that_the_program_starts_waits_too(folder: Path) -> None:
    (folder / "parent.py").write_text("import subprocess, sys; subprocess.run([sys.executable, 'look.py'], check=True)")
    assert run([*FUSEGEN, "run", "--", "parent.py"], folder) == "[[], true, []]\n"


def test_a_spawned_worker_loads_nothing_that_it_does_not_need(folder: Path) -> None:
    (folder / "parent.py").write_text(
        "import multiprocessing, sys\nfrom worker import work\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool: print(pool.apply(work))\n"
    )
    (folder / "worker.py").write_text("import sys\ndef work(): return {'torch', 'fusegen'} & set(sys.modules)\n")
    assert run([*FUSEGEN, "run", "--", "parent.py"], folder) == "set()\n"


def test_fusegen_0_switches_it_off(folder: Path) -> None:
    assert run([*FUSEGEN, "run", "--", "look.py"], folder, FUSEGEN="0") == "[[], false, []]\n"


def test_anything_else_switches_it_on(folder: Path) -> None:
    assert run([*FUSEGEN, "run", "--", "look.py"], folder, FUSEGEN="yes") == "[[], true, []]\n"


def test_fusegen_1_alone_changes_nothing(folder: Path) -> None:
    assert run([sys.executable, "look.py"], folder, FUSEGEN="1") == "[[], false, []]\n"


def test_a_sitecustomize_of_the_user_runs_all_the_same(folder: Path) -> None:
    (folder / "theirs").mkdir()
    (folder / "theirs/sitecustomize.py").write_text("import builtins; builtins.theirs = __file__")
    (folder / "ask.py").write_text("import sitecustomize; print(theirs == sitecustomize.__file__, theirs)")
    path = f"{folder}/theirs"
    found = run([*FUSEGEN, "run", "--", "ask.py"], folder, PYTHONPATH=path)
    assert found == f"True {path}/sitecustomize.py\n"


def test_an_exit_status_is_that_of_the_program(folder: Path) -> None:
    (folder / "fails.py").write_text("raise SystemExit(7)")
    assert subprocess.run([*FUSEGEN, "run", "--", "fails.py"], cwd=folder, check=False).returncode == 7


def test_a_program_that_does_not_exist_is_refused(folder: Path) -> None:
    done = subprocess.run([*FUSEGEN, "run", "--", "no-such-program"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "Error: cannot run no-such-program: No such file or directory. Name a script, -m or a program.\n"
    )


needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None,
    reason="needs torch and transformers (the extra `runtime`)",
)
needs_accelerate = pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="needs accelerate")

TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node=1", "--master_port=0"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes=1", "--num_machines=1"]


@needs_transformers
@pytest.mark.parametrize(
    ("launcher", "arguments"),
    [
        pytest.param(FUSEGEN, ["run", "--", "train.py"], id="script"),
        pytest.param([sys.executable, *TORCHRUN], ["entry.py", "run", "--", "train.py"], id="below-torchrun"),
        pytest.param([*FUSEGEN, "run", "--"], [*ACCELERATE, "train.py"], id="above-accelerate", marks=needs_accelerate),
    ],
)
def test_a_training_program_is_fused(launcher: list[str], arguments: list[str], folder: Path) -> None:
    home = {"HF_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    assert run([*launcher, *arguments, "--steps", "1"], folder, **home) == "fused ['--steps', '1']\n"
