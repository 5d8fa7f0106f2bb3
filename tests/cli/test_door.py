"""What meets fusegen at the door, in real processes: streams that cannot be written, odd names, signals.

Whatever goes wrong is status 2 and one line, never a traceback, and never 1, which says something was found.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fusegen.generated as shipped

FUSEGEN = [sys.executable, "-m", "fusegen"]

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def fusegen(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*FUSEGEN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]


def in_shell(redirected: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`fusegen` with redirections of a shell."""
    command = ["sh", "-c", f'"$@" {redirected}', "sh", *FUSEGEN, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assert_refused(done: subprocess.CompletedProcess[str], said: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


# -- streams ---------------------------------------------------------------------------------------------------


@posix
@needs_full
@pytest.mark.parametrize("arguments", [["scan", "--source"], ["scan", "--format", "html", "--source"], ["--help"]])
def test_a_full_stdout_is_said(arguments: list[str], tree: Path) -> None:
    paths = [tree] if "scan" in arguments else []
    assert_refused(in_shell(">/dev/full", *arguments, *paths, *["-q"] * len(paths)), "No space left on device")


@posix
def test_a_closed_stdout_is_said(tree: Path) -> None:
    assert_refused(in_shell(">&-", "scan", "--source", tree, "-q"), "cannot write the result to stdout: it is closed")
    assert in_shell(">&-", "--help").returncode == 2


@posix
def test_a_closed_stdout_does_not_matter_where_the_result_goes_elsewhere(tree: Path, tmp_path: Path) -> None:
    done = in_shell(">&-", "scan", "--source", tree, "-q", "--format", "json", "-o", tmp_path / "found.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "found.json").read_text().startswith("{")


@posix
def test_errors_are_never_silent(tree: Path) -> None:
    done = in_shell("2>&-", "scan", "--source", tree)
    assert done.returncode == 2
    assert done.stdout.startswith("Error: stderr is closed")
    assert done.stdout.count("\n") == 1
    assert in_shell(">&- 2>&-", "scan", "--source", tree).returncode == 2


@posix
@needs_full
def test_what_cannot_be_said_is_status_2(tree: Path) -> None:
    (tree / "models/llama/modeling_llama.py").write_text("def broken(:\n")
    assert in_shell("2>/dev/full", "scan", "--source", tree).returncode == 2


@posix
def test_a_program_may_have_no_stderr() -> None:
    done = in_shell("2>&-", "run", "--", "-c", "print('ran')")
    assert (done.returncode, done.stdout) == (0, "ran\n")


@posix
@pytest.mark.parametrize("arguments", [["--help"], ["rule"], ["rule", "--format", "json"]])
def test_a_reader_that_goes_away_is_no_finding(arguments: list[str]) -> None:
    with subprocess.Popen([*FUSEGEN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


# -- files of the result ---------------------------------------------------------------------------------------


def test_an_output_file_that_cannot_be_written_is_said(tree: Path, tmp_path: Path) -> None:
    done = fusegen("scan", "--source", tree, "-q", "-o", tmp_path / "nowhere/found.txt")
    assert_refused(done, "nowhere/found.txt: No such file or directory")
    done = fusegen("scan", "--source", tree, "-q", "-o", tmp_path)
    assert (done.returncode, "is a directory" in done.stderr) == (2, True)


@posix
def test_a_device_is_written_to_and_a_link_is_followed(tree: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        assert fusegen("scan", "--source", tree, "-q", "-o", tmp_path / "pipe").returncode == 0
        assert reader.stdout is not None
        assert "3 sites" in reader.stdout.read()
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "link").symlink_to("found.txt")
    assert fusegen("scan", "--source", tree, "-q", "-o", tmp_path / "link").returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert "3 sites" in (tmp_path / "found.txt").read_text()


@posix
def test_a_working_directory_that_is_gone_is_said(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = ["sh", "-c", 'cd "$0" && rmdir "$0" && "$@"', tmp_path / "gone", *FUSEGEN, "scan", "--source", tree]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": ""})
    assert_refused(done, "the working directory cannot be read")


# -- run -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["allways", "Training", "1"])
def test_a_wrong_choice_is_an_error_before_the_program_starts(given: str) -> None:
    done = fusegen("run", "--", "-c", "print('started')", env=os.environ | {"FUSEGEN_FUSE": given})
    assert done.stdout == ""
    assert_refused(done, f"FUSEGEN_FUSE: expected one of training, always, never, got '{given}'")


@pytest.mark.parametrize(("fuse", "switch"), [("", "1"), ("always", "1"), ("allways", "0")])
def test_other_programs_start(fuse: str, switch: str) -> None:
    environment = os.environ | {"FUSEGEN_FUSE": fuse, "FUSEGEN": switch}
    done = fusegen("run", "--", "-c", "print('started')", env=environment)
    assert (done.returncode, done.stdout) == (0, "started\n")


# -- verify ----------------------------------------------------------------------------------------------------


def test_verify_is_about_the_tree_that_install_takes(tmp_path: Path) -> None:
    (tmp_path / "generated").mkdir()
    done = fusegen("verify", "nothing*", "-q", cwd=tmp_path)
    assert_refused(done, f"{Path(shipped.__file__ or '').parent} holds no model or class 'nothing*'")


def test_an_old_transformers_is_said_by_verify(tmp_path: Path) -> None:
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers/__init__.py").touch()
    (tmp_path / "transformers-4.40.0.dist-info").mkdir()
    (tmp_path / "transformers-4.40.0.dist-info/METADATA").write_text("Name: transformers\nVersion: 4.40.0\n")
    done = fusegen("verify", "llama", "-q", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert_refused(done, "transformers 4.40.0 is older than 4.56")


@pytest.mark.parametrize("broken", ["raise ImportError('half installed')", "import no_such_module", "1 / 0"])
def test_a_broken_torch_is_said_by_verify(broken: str, tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(broken)
    done = fusegen("verify", "llama", "-q", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert_refused(done, "")
