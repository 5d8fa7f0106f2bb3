"""How the writer treats what is already in the folder, whatever interrupts it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusegen.codegen import writer
from fusegen.codegen.emit import Emission, emit
from fusegen.codegen.manifest import MANIFEST
from fusegen.codegen.sources import open_source
from fusegen.codegen.writer import WriteError, assert_apart, compare, differences, read_manifest, write

needs_swap = pytest.mark.skipif(sys.platform != "linux", reason="folders are swapped on Linux only")


@pytest.fixture
def emission(tree: Path) -> Emission:
    return emit(open_source(str(tree)), "1.2.3", jobs=1)


@pytest.fixture
def without_llama(emission: Emission, tree: Path) -> Emission:
    shutil.rmtree(tree / "models/llama")
    return emit(open_source(str(tree)), "1.2.3", jobs=1)


def held(folder: Path) -> dict[str, str]:
    """Every file of a folder by its path, and nothing but files and folders in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def test_the_folder_holds_what_was_emitted_and_nothing_else(emission: Emission, tmp_path: Path) -> None:
    out = tmp_path / "deep/generated"
    assert write(out, emission.files)
    assert held(out) == emission.files
    assert [path.name for path in out.parent.iterdir()] == ["generated"]


def test_writing_twice_changes_nothing(emission: Emission, tmp_path: Path) -> None:
    out = tmp_path / "generated"
    write(out, emission.files)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert not write(out, emission.files)
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_a_file_that_does_not_change_keeps_its_time(
    emission: Emission, without_llama: Emission, tmp_path: Path
) -> None:
    out = tmp_path / "generated"
    write(out, emission.files)
    os.utime(out / "gemma/modeling_gemma.py", (1, 1))
    write(out, without_llama.files)
    assert (out / "gemma/modeling_gemma.py").stat().st_mtime == 1


def test_compare_and_differences_write_nothing(emission: Emission, tmp_path: Path) -> None:
    out = tmp_path / "generated"
    changes = compare(out, emission.files)
    assert changes.written == tuple(emission.files)
    assert "+++ b/gemma/modeling_gemma.py\n" in differences(out, emission.files, changes)
    assert not out.exists()


def test_what_is_no_longer_wanted_is_removed(emission: Emission, without_llama: Emission, tmp_path: Path) -> None:
    out = tmp_path / "generated"
    write(out, emission.files)
    (out / "llama/__pycache__").mkdir()
    (out / "llama/__pycache__/modeling_llama.pyc").touch()
    assert write(out, without_llama.files).removed == ("llama/__init__.py", "llama/modeling_llama.py")
    assert held(out) == without_llama.files
    assert not (out / "llama").exists()


@pytest.mark.parametrize("swaps", [pytest.param(True, marks=needs_swap), False])
def test_what_a_person_added_stays(
    emission: Emission, without_llama: Emission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swaps: bool
) -> None:
    if not swaps:
        monkeypatch.setattr(writer, "swap", lambda *folders: False)
    out = tmp_path / "generated"
    write(out, emission.files)
    (out / "llama/notes.txt").write_text("mine")
    (out / "empty").mkdir()
    (out / "link").symlink_to("llama")
    before = (out / "llama/notes.txt").stat()
    write(out, without_llama.files)
    assert held(out) == without_llama.files | {"llama/notes.txt": "mine"}
    assert (out / "llama/notes.txt").stat().st_ino == before.st_ino
    assert (out / "empty").is_dir()
    assert (out / "link").readlink() == Path("llama")
    assert not (out / "llama/modeling_llama.py").exists()


def test_a_file_that_a_person_edited_is_never_touched(emission: Emission, tmp_path: Path) -> None:
    out = tmp_path / "generated"
    write(out, emission.files)
    edited = out / "llama/modeling_llama.py"
    edited.write_text(edited.read_text() + "# mine\n")
    changed = emission.files | {"gemma/modeling_gemma.py": "# other\n"}
    with pytest.raises(WriteError, match=r"llama/modeling_llama\.py: was edited"):
        write(out, changed)
    assert edited.read_text().endswith("# mine\n")
    assert (out / "gemma/modeling_gemma.py").read_text() == emission.files["gemma/modeling_gemma.py"]


def test_an_edited_file_that_is_no_longer_wanted_is_not_removed(
    emission: Emission, without_llama: Emission, tmp_path: Path
) -> None:
    out = tmp_path / "generated"
    write(out, emission.files)
    (out / "llama/modeling_llama.py").write_text("# mine\n")
    with pytest.raises(WriteError, match=r"llama/modeling_llama\.py: was edited"):
        write(out, without_llama.files)
    assert held(out) == emission.files | {"llama/modeling_llama.py": "# mine\n"}


@pytest.mark.parametrize("name", ["llama/modeling_llama.py", "notes.txt", "llama"])
def test_a_folder_of_a_person_is_never_touched(emission: Emission, tmp_path: Path, name: str) -> None:
    out = tmp_path / "generated"
    place = out / name
    place.parent.mkdir(parents=True)
    place.write_text("# mine\n")
    with pytest.raises(WriteError, match=f"{name.split('/')[0]}.*: was not written by fusegen"):
        write(out, emission.files)
    assert held(out) == {name: "# mine\n"}


def test_hidden_files_do_not_make_a_folder_a_persons(emission: Emission, tmp_path: Path) -> None:
    out = tmp_path / "generated"
    out.mkdir()
    (out / ".gitignore").write_text("*.pyc\n")
    write(out, emission.files)
    assert held(out) == emission.files | {".gitignore": "*.pyc\n"}


def test_a_link_in_the_way_is_not_followed(emission: Emission, without_llama: Emission, tmp_path: Path) -> None:
    out = tmp_path / "generated"
    write(out, without_llama.files)
    (tmp_path / "elsewhere").mkdir()
    (out / "llama").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WriteError, match="llama: was not written by fusegen"):
        write(out, emission.files)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("target", ["../elsewhere.py", "../nowhere.py"])
def test_a_link_in_the_place_of_a_file_is_a_persons(
    emission: Emission, without_llama: Emission, tmp_path: Path, target: str
) -> None:
    out = tmp_path / "generated"
    write(out, without_llama.files)
    (tmp_path / "elsewhere.py").write_text("mine")
    (out / "llama").mkdir()
    link = out / "llama/modeling_llama.py"
    link.symlink_to(f"../{target}")
    with pytest.raises(WriteError, match=r"modeling_llama\.py: was not written by fusegen"):
        write(out, emission.files)
    assert link.is_symlink()
    assert (tmp_path / "elsewhere.py").read_text() == "mine"


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"files": {"../escape.py": "0"}, "classes": []}',
        '{"files": 3, "classes": []}',
        '{"files": {}, "classes": [{"verified": {}}]}',
    ],
)
def test_a_foreign_manifest_is_an_error(emission: Emission, tmp_path: Path, text: str) -> None:
    out = tmp_path / "generated"
    out.mkdir()
    (out / MANIFEST).write_text(text)
    with pytest.raises(WriteError, match=r"manifest\.json"):
        write(out, emission.files)
    with pytest.raises(WriteError, match=r"manifest\.json"):
        read_manifest(out)
    assert held(out) == {MANIFEST: text}


def test_the_manifest_of_an_earlier_run_can_be_read(emission: Emission, tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "generated") is None
    write(tmp_path / "generated", emission.files)
    assert read_manifest(tmp_path / "generated") == json.loads(emission.files[MANIFEST])


# -- odd places ------------------------------------------------------------------------------------------------


def test_a_link_to_the_folder_stays_a_link(emission: Emission, without_llama: Emission, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    out = tmp_path / "generated"
    out.symlink_to("real")
    write(out, emission.files)
    write(out, without_llama.files)
    assert out.readlink() == Path("real")
    assert held(tmp_path / "real") == without_llama.files


def test_a_file_in_the_place_of_the_folder_is_an_error(emission: Emission, tmp_path: Path) -> None:
    out = tmp_path / "generated"
    out.write_text("mine")
    with pytest.raises(WriteError, match="generated: is a file"):
        write(out, emission.files)
    assert out.read_text() == "mine"


def test_a_read_only_folder_is_an_error(
    emission: Emission, without_llama: Emission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "generated"
    write(out, emission.files)
    out.chmod(0o555)
    if os.access(out, os.W_OK):
        # The superuser may write everywhere.
        monkeypatch.setattr(writer.os, "access", lambda *arguments: False)
    with pytest.raises(WriteError, match="generated: is read-only"):
        write(out, without_llama.files)
    assert held(out) == emission.files
    assert [path.name for path in tmp_path.iterdir() if "generated" in path.name] == ["generated"]
    out.chmod(0o755)


def test_the_new_folder_has_the_mode_of_the_old_one(
    emission: Emission, without_llama: Emission, tmp_path: Path
) -> None:
    out = tmp_path / "generated"
    write(out, emission.files)
    out.chmod(0o750)
    write(out, without_llama.files)
    assert out.stat().st_mode & 0o777 == 0o750


def test_the_working_directory_is_not_pulled_from_under_a_shell(
    emission: Emission, without_llama: Emission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "generated"
    write(out, emission.files)
    monkeypatch.chdir(out)
    write(Path("."), without_llama.files)
    assert held(Path(".")) == held(out) == without_llama.files
    assert not Path("llama").exists()


@pytest.mark.parametrize("inside", [".", "models/llama", "..", "../.."])
def test_a_folder_that_overlaps_the_source_tree_is_an_error(tree: Path, inside: str) -> None:
    with pytest.raises(WriteError, match="overlaps the source tree"):
        assert_apart(tree / inside, tree)
    assert_apart(tree.parent / "generated", tree)


# -- interruptions ---------------------------------------------------------------------------------------------

# Writes a tree again and again from a fresh process that is killed at its first, second, ... change of the file
# system, until one gets to the end; after each kill the folder must be the old tree or the new one, whole.
KILLED = """
import json, os, signal, sys, traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from fusegen.codegen.writer import write

root, old, new = Path(sys.argv[1]), *(json.loads(Path(path).read_text()) for path in sys.argv[2:])
out = root / "generated"
CHANGES = ("open", "os.link", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree")


def state():
    return {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*") if path.is_file()}


def killed_at(number):
    left = number

    def count(event, arguments):
        nonlocal left
        changes = event in CHANGES and not (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR))
        left -= changes and (".fusegen" in str(arguments[0]) or event == "os.remove") or event == "ctypes.dlsym"
        if left < 0 and event != "os.kill":
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        sys.addaudithook(count)
        try:
            write(out, new)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0, status
    return os.WIFSIGNALED(status)


write(out, old)
(out / "mine.txt").write_text("mine")
ends = []
while killed_at(len(ends)):
    now = state()
    assert now.pop("mine.txt") == "mine", len(ends)
    ends.append("old" if now == old else "new" if now == new else "broken")
    assert ends[-1] != "broken", (len(ends), now.keys())
    write(out, old)
    assert state() == old | {"mine.txt": "mine"}
    assert sorted(path.name for path in root.iterdir()) == ["generated"], len(ends)
print(ends.count("old"), ends.count("new"))
"""


@needs_swap
def test_a_run_that_is_killed_leaves_the_old_tree_whole(
    emission: Emission, without_llama: Emission, tmp_path: Path
) -> None:
    room = tmp_path / "room"
    room.mkdir()
    for name, files in (("old", emission.files), ("new", without_llama.files)):
        (tmp_path / name).write_text(json.dumps(files))
    command = [sys.executable, "-c", KILLED, str(room), str(tmp_path / "old"), str(tmp_path / "new")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    old, new = map(int, result.stdout.split())
    assert old > len(without_llama.files)
    assert new > 0


@pytest.mark.parametrize("fails_at", range(1, 8))
def test_an_error_in_the_middle_undoes_what_was_done_where_folders_cannot_be_swapped(
    emission: Emission,
    without_llama: Emission,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails_at: int,
) -> None:
    out = tmp_path / "generated"
    write(out, without_llama.files)
    calls = 0
    replace, unlink = Path.replace, Path.unlink

    def failing(operation: str) -> object:
        def call(path: Path, *arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == fails_at:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return {"replace": replace, "unlink": unlink}[operation](path, *arguments, **options)

        return call

    monkeypatch.setattr(writer, "swap", lambda *folders: False)
    with monkeypatch.context() as patched:
        for operation in ("replace", "unlink"):
            patched.setattr(Path, operation, failing(operation))
        if fails_at <= len(compare(out, emission.files).written):
            with pytest.raises(WriteError, match=r"No space left on device.*It is as it was"):
                write(out, emission.files)
            assert held(out) == without_llama.files
            assert not (out / "llama").exists()
    write(out, emission.files)
    assert held(out) == emission.files
    assert sorted(path.name for path in tmp_path.iterdir() if "generated" in path.name) == ["generated"]


def test_a_full_disk_leaves_the_old_tree_whole(
    emission: Emission, without_llama: Emission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "generated"
    write(out, without_llama.files)

    def failing(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", failing)
        with pytest.raises(WriteError, match=r"cannot write .*generated: No space left"):
            write(out, emission.files)
    assert held(out) == without_llama.files
    assert sorted(path.name for path in tmp_path.iterdir() if "generated" in path.name) == ["generated"]


def test_two_runs_at_the_same_time_leave_the_tree_of_one_of_them(
    emission: Emission, without_llama: Emission, tmp_path: Path
) -> None:
    out = tmp_path / "generated"
    trees = [emission.files, without_llama.files] * 6
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda files: write(out, files), trees))) == len(trees)
    assert held(out) in (emission.files, without_llama.files)
    assert sorted(path.name for path in tmp_path.iterdir() if "generated" in path.name) == ["generated"]
