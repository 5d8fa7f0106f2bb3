from __future__ import annotations

import io
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fusegen.codegen import download
from fusegen.codegen.cache import cache_directory
from fusegen.codegen.decoding import MAX_FILE_BYTES
from fusegen.codegen.sources import SourceError, open_source

PATHS = (
    "models/bird/modeling_bird.py",
    "models/edited/modeling_edited.py",
    "models/gemma/modeling_gemma.py",
    "models/llama/modeling_llama.py",
)


def make_wheel(root: Path, wheel: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.py"), reverse=True):
            archive.write(path, prefix + path.relative_to(root.parent).as_posix())
        archive.writestr("transformers-5.99.0.dist-info/METADATA", "Name: transformers\nVersion: 5.99.0\n")
    return wheel


def make_sdist(root: Path, sdist: Path) -> Path:
    with tarfile.open(sdist, "w:gz") as archive:
        archive.add(root, "transformers-5.99.0/src/transformers")
        archive.add(root / "models", "transformers-5.99.0/tests/models")
    return sdist


def spec_of(kind: str, root: Path, folder: Path) -> str:
    match kind:
        case "package":
            return str(root)
        case "parent":
            return str(root.parent)
        case "wheel":
            return str(make_wheel(root, folder / "transformers-5.99.0-py3-none-any.whl"))
        case "sdist":
            return str(make_sdist(root, folder / "transformers-5.99.0.tar.gz"))
    raise ValueError(kind)


@pytest.mark.parametrize("kind", ["package", "parent", "wheel", "sdist"])
class TestEveryKindOfSource:
    def test_gives_the_same_tree(self, kind: str, tree: Path, tmp_path: Path) -> None:
        source = open_source(spec_of(kind, tree, tmp_path))
        assert (source.package, source.version) == ("transformers", "5.99.0")
        assert source.paths() == PATHS
        assert source.left_out() == ("models/deprecated/old/modeling_old.py",)
        assert [file.path for file in source.files()] == list(PATHS)
        assert all(file.content == (tree / file.path).read_bytes() for file in source.files())

    def test_reads_single_files(self, kind: str, tree: Path, tmp_path: Path) -> None:
        source = open_source(spec_of(kind, tree, tmp_path))
        assert source.read("loss/loss_utils.py") == (tree / "loss/loss_utils.py").read_bytes()
        assert source.read("models/bird/configuration_bird.py") == b"class BirdConfig: ...\n"
        assert source.read("models/bird/nothing.py") is None
        assert source.read("__init__.py/nothing.py") is None

    def test_can_be_sent_to_another_process(self, kind: str, tree: Path, tmp_path: Path) -> None:
        source = open_source(spec_of(kind, tree, tmp_path))
        sent = pickle.loads(pickle.dumps(source))
        assert sent == source
        assert sent.read(PATHS[0]) == source.read(PATHS[0])


def test_a_checkout_with_src_is_a_source(write_tree: Callable[..., Path], tmp_path: Path) -> None:
    write_tree(into=tmp_path / "checkout" / "src")
    assert open_source(str(tmp_path / "checkout")).paths() == PATHS


def test_models_may_lie_deeper_than_one_folder(write_tree: Callable[..., Path]) -> None:
    root = write_tree({"__init__.py": "", "models/a/b/modeling_c.py": "", "models/modeling_none.py": ""})
    assert open_source(str(root)).paths() == ("models/a/b/modeling_c.py",)


def test_the_version_comes_from_dist_info_if_the_text_has_none(write_tree: Callable[..., Path]) -> None:
    root = write_tree({"__init__.py": "from .version import __version__\n", "models/a/modeling_a.py": ""})
    assert open_source(str(root)).version is None
    (root.parent / "transformers-5.1.0.dist-info").mkdir()
    assert open_source(str(root)).version == "5.1.0"


def test_installed_is_found_without_importing_it(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "__init__.py").write_text('__version__ = "5.98.0"\nraise RuntimeError("imported")\n')
    monkeypatch.setattr(sys, "path", [str(tree.parent)])
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    source = open_source("installed")
    assert source.version == "5.98.0"
    assert source.paths() == PATHS


def test_installed_but_absent_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    with pytest.raises(SourceError, match=r"not installed .*pip install transformers.*--source"):
        open_source("installed")


def test_a_word_that_is_nothing_names_the_possible_sources() -> None:
    with pytest.raises(SourceError, match=r"no source 'nowhere/at-all'.*directory.*wheel.*version"):
        open_source("nowhere/at-all")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("/dev/null", "neither a directory nor a regular file"),
        ("x" * 300, "file name too long"),
        ("~nobody-of-this-name/x", "no such file or directory"),
    ],
)
def test_what_cannot_be_read_at_all_says_why(spec: str, why: str) -> None:
    with pytest.raises(SourceError, match=f"no source '.*': {why}, and not a version number"):
        open_source(spec)


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no transformers package"):
        open_source(str(tmp_path))


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no archive")
    with pytest.raises(SourceError, match=r"notes\.txt: it is not a whole zip or tar archive\. Give a wheel"):
        open_source(str(file))


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("other/__init__.py", "")
        archive.writestr("deep/down/in/transformers/__init__.py", "")
    with pytest.raises(SourceError, match="holds no transformers package"):
        open_source(str(file))


def test_a_member_that_unpacks_to_too_much_is_refused(tree: Path, tmp_path: Path) -> None:
    (tree / PATHS[0]).write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    for kind in ("wheel", "sdist"):
        source = open_source(spec_of(kind, tree, tmp_path))
        with pytest.raises(SourceError, match="unpacks to more than 16 MB"):
            source.read(PATHS[0])
        assert source.read(PATHS[1]) is not None


def test_a_damaged_member_is_refused_and_others_are_read(tree: Path, tmp_path: Path) -> None:
    wheel = make_wheel(tree, tmp_path / "damaged.whl")
    with zipfile.ZipFile(wheel) as archive:
        start = archive.getinfo("transformers/" + PATHS[0]).header_offset
    content = bytearray(wheel.read_bytes())
    content[start + 100 : start + 140] = bytes(40)
    wheel.write_bytes(content)
    source = open_source(str(wheel))
    with pytest.raises(SourceError, match="damaged"):
        source.read(PATHS[0])
    assert source.read(PATHS[1]) is not None


def test_a_version_is_downloaded_once_into_the_cache(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def pip(command: list[str], **_: object) -> object:
        commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        make_wheel(tree, folder / "transformers-5.99.0-py3-none-any.whl")
        return type("Done", (), {"returncode": 0, "stderr": ""})()

    monkeypatch.setattr(download.subprocess, "run", pip)
    assert open_source("5.99").version == "5.99.0"
    assert open_source("5.99").paths() == PATHS
    assert len(commands) == 1
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in commands[0]
    assert commands[0][-1] == "transformers==5.99"
    assert [path.suffix for path in (cache_directory() / "wheels").iterdir()] == [".whl"]


def test_a_version_that_pip_does_not_find_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "WARNING: x\nERROR: No matching distribution found for transformers==99\n"
    monkeypatch.setattr(
        download.subprocess, "run", lambda *_, **__: type("Done", (), {"returncode": 1, "stderr": said})()
    )
    with pytest.raises(SourceError, match=r"^pip could not download transformers==99: ERROR: No matching distribution"):
        open_source("99")


def test_a_wheel_is_read_by_several_processes_at_once(tree: Path, tmp_path: Path) -> None:
    from concurrent.futures import ProcessPoolExecutor

    for number in range(40):
        (tree / f"models/m{number}").mkdir()
        (tree / f"models/m{number}/modeling_m{number}.py").write_text(f"# {number}\n" * 5000)
    source = open_source(spec_of("wheel", tree, tmp_path))
    assert source.paths()
    with ProcessPoolExecutor(2) as pool:
        contents = list(pool.map(source.read, source.paths()))
    assert contents == [(tree / path).read_bytes() for path in source.paths()]


def test_an_empty_tar_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "empty.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("readme"), io.BytesIO())
    with pytest.raises(SourceError, match="holds no transformers package"):
        open_source(str(file))
