"""What only a real process shows: start-up time, what is imported, pipes and terminals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUN = "import sys; from fusegen.cli import main; main()"
MODULE = [sys.executable, "-m", "fusegen"]
HEAVY = ("torch", "transformers", "triton", "libcst", "rich", "jinja2", "numpy")


def fusegen(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["scan", "--help"], ["rule"]])
def test_starts_in_less_than_0_3_seconds(arguments: list[str]) -> None:
    def once() -> float:
        start = time.perf_counter()
        assert fusegen(*arguments).returncode == 0
        return time.perf_counter() - start

    # The best of several: a busy machine makes single runs slow, never fast.
    assert min(once() for _ in range(5)) < 0.3


@pytest.mark.parametrize(
    "statement",
    [
        "import fusegen",
        "import fusegen.cli",
        "cli.main(['scan', '--help'], standalone_mode=False)",
        "cli.main(['scan', '--source', sys.argv[1], '--format', 'json'], standalone_mode=False)",
        "cli.main(['explain', 'LlamaForCausalLM', '--source', sys.argv[1]], standalone_mode=False)",
        "cli.main(['diff', sys.argv[1], sys.argv[1], '--format', 'markdown'], standalone_mode=False)",
    ],
)
def test_the_static_half_loads_nothing_heavy(statement: str, tree: Path) -> None:
    code = f"import sys, json\nfrom fusegen.cli import cli\n{statement}\nprint(file=sys.stderr)\n"
    code += f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, tree], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr.splitlines()[-1]) == []


def test_a_reader_that_goes_away_ends_the_program_quietly(tree: Path) -> None:
    command = [sys.executable, "-c", RUN, "scan", "--source", str(tree), "--format", "json", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_narrow_encoding_is_no_traceback(tree: Path) -> None:
    text = (tree / "models/edited/modeling_edited.py").read_text()
    (tree / "models/edited/modeling_edited.py").write_text(text.replace("7] =", "ж] ="), encoding="utf-8")
    done = fusegen("scan", "--source", tree, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_a_bar_is_drawn_only_on_a_terminal(tree: Path) -> None:
    assert fusegen("scan", "--source", tree, "--no-cache").stderr == "Left out: 1 file of deprecated models.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_a_slow_scan_shows_a_bar_on_stderr(tree: Path) -> None:
    import pty

    code = (
        "import time\nfrom fusegen.cli import terminal\nterminal.PATIENCE_SECONDS = 0\n"
        "with terminal.progress_bar('Reading models', 0) as bar:\n"
        "    for number in range(5):\n        bar(number, 5, ('LlamaModel',)); time.sleep(0.05)\n"
    )
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm"}
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    drawn = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert done.stdout == b""
    assert "Reading models LlamaModel" in drawn
    assert "/5" in drawn


def test_runs_as_a_module() -> None:
    done = subprocess.run([*MODULE, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("fusegen ")
    assert subprocess.run([*MODULE, "nothing"], capture_output=True, check=False).returncode == 2
