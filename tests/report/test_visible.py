"""What a file name or a line of source holds acts on no terminal and moves no line of a report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fusegen.codegen.report import FORMATS
from fusegen.codegen.report.diff import FORMATS as DIFF_FORMATS
from fusegen.codegen.visible import json_text, visible, visible_lines

# A terminal's answer-back, a title, C1's CSI, a line feed and friends, and a turn of direction.
EVIL = "\x1b[2J\x1b]0;x\x07\x9b31m\x7f\u202e\u2028\x85\x0c"
RAW = {letter for letter in EVIL if not letter.isprintable()} | {"\r", "\0"}

posix = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="needs names that other systems do not have")


@pytest.fixture
def evil_tree(tree: Path) -> Path:
    """A matched, a rejected and a broken file, each with control characters in its name and its lines."""
    for model, old, new in (
        ("llama", "self.vocab_size, **kwargs", f"self.vocab_size, **kwargs)  # {EVIL}\n            self.note('{EVIL}'"),
        ("edited", "logits[:, :, 7] = float('-inf')", f"logits[:, :, 7] = float('-inf')  # {EVIL}"),
        ("bird", "labels.view(-1))", f"labels.view(-1))  # {EVIL}\n    def broken(:"),
    ):
        file = tree / f"models/{model}/modeling_{model}.py"
        text = file.read_text().replace(old, new.replace("\x0c", "").replace("\x85", "").replace("\u2028", ""))
        (tree / f"models/{model}{EVIL}\n{model}").mkdir()
        (tree / f"models/{model}{EVIL}\n{model}/modeling_{model}{EVIL}.py").write_text(text, encoding="utf-8")
    return tree


def fusegen(*arguments: object, status: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fusegen", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode in status, done.stderr
    return done


def assert_visible(text: str) -> None:
    assert {letter for letter in text if letter in RAW} == set()


@posix
@pytest.mark.parametrize("format_name", sorted(FORMATS))
def test_every_format_of_a_scan(evil_tree: Path, format_name: str) -> None:
    done = fusegen("scan", "--source", evil_tree, "--format", format_name, "-v")
    assert_visible(done.stdout)
    assert_visible(done.stderr)
    assert "x1b[2J" in done.stdout or "u001b[2J" in done.stdout
    if format_name == "concise":
        assert len(done.stdout.splitlines()) == 5
        assert "models/llama\\x1b[2J" in done.stdout
    if format_name in ("json", "sarif"):
        json.loads(done.stdout)


@posix
@pytest.mark.parametrize("format_name", sorted(DIFF_FORMATS))
def test_every_format_of_a_diff(evil_tree: Path, format_name: str, tmp_path: Path) -> None:
    fusegen("scan", "--source", evil_tree, "--format", "json", "-o", tmp_path / "new.json")
    document = json.loads((tmp_path / "new.json").read_text())
    document["sites"] = [site for site in document["sites"] if site["verdict"] != "match"]
    (tmp_path / "old.json").write_text(json.dumps(document))
    for pair in (("old.json", "new.json"), ("new.json", "old.json")):
        done = fusegen("diff", *(tmp_path / each for each in pair), "--format", format_name, "-v")
        assert_visible(done.stdout)
        assert_visible(done.stderr)


@posix
def test_the_reports_of_a_generated_tree_and_what_emit_says(evil_tree: Path, tmp_path: Path) -> None:
    done = fusegen("emit", "--source", evil_tree, "--out", tmp_path / "out", "-v")
    assert_visible(done.stdout)
    assert_visible(done.stderr)
    for name in ("report.md", "report.html", "report.json", "manifest.json"):
        assert_visible((tmp_path / "out" / name).read_text(encoding="utf-8"))


@posix
def test_explain(evil_tree: Path) -> None:
    for name in ("LlamaForCausalLM", "EditedForCausalLM"):
        done = fusegen("explain", name, "--source", evil_tree)
        assert_visible(done.stdout)
        assert "\\x1b[2J" in done.stdout


@posix
def test_an_error_that_names_a_path(tmp_path: Path) -> None:
    done = fusegen("scan", "--source", tmp_path / EVIL, status=(2,))
    assert_visible(done.stderr)
    assert done.stderr.count("\n") == 1


@posix
def test_a_diff_is_exact_in_a_file_and_harmless_on_a_terminal(tree: Path, tmp_path: Path) -> None:
    import pty

    llama = tree / "models/llama/modeling_llama.py"
    llama.write_text(llama.read_text().replace("        loss = None\n", "        loss = None  # \x1b[2J\n"))
    command = [sys.executable, "-m", "fusegen", "emit", "--source", tree, "--out", tmp_path / "out", "--diff"]
    plain = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "\x1b[2J" in plain.stdout
    ours, theirs = pty.openpty()
    shown = b""
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=os.environ | {"TERM": "xterm"}):
        os.close(theirs)
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:
            pass
    os.close(ours)
    assert b"loss = None  # \\x1b[2J" in shown
    assert b"\x1b" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ж 漢 é", "plain ж 漢 é"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[0m\x9b", "\\x1b[0m\\x9b"),
        ("\u202e\ud800", "\\u202e\\ud800"),
    ],
)
def test_what_controls_is_spelled(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert json.loads(json_text(json.dumps(text, ensure_ascii=False))) == text


def test_a_byte_of_a_file_name_is_spelled() -> None:
    assert visible(os.fsdecode(b"b\xffd")) == "b\\xffd"


def test_lines_keep_their_ends() -> None:
    assert visible_lines("a\tb\n\x1bc\n") == "a\tb\n\\x1bc\n"


# -- filters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_name", ["full", "json", "html", "markdown"])
def test_a_filter_makes_no_match_a_file_without_loss(
    fusegen_here: Callable[..., str], tree: Path, format_name: str
) -> None:
    text = fusegen_here("scan", "--source", tree, "--ignore", "match", "-v", "--format", format_name)
    if format_name == "json":
        assert json.loads(text)["files_without_site"] == ["models/bird/modeling_bird.py"]
    else:
        assert "models/llama/modeling_llama.py" not in text
        assert ("1 of 3 sites in 4 modeling files" in text) == (format_name != "html")


@pytest.fixture
def fusegen_here() -> Callable[..., str]:
    return lambda *arguments: fusegen(*arguments).stdout
