"""Nothing is written outside of the folder that is asked for, whatever the names in a source are."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fusegen.codegen.emit import emit
from fusegen.codegen.layouts import LAYOUTS
from fusegen.codegen.paths import why_not_a_tree, why_not_below
from fusegen.codegen.pipeline import scan
from fusegen.codegen.sources import SourceError, open_source
from fusegen.codegen.writer import MANIFEST, WriteError, compare, read_manifest, write

MODELS = "transformers/models"
OUTSIDE = [
    f"{MODELS}/../../../escaped/modeling_x.py",
    f"{MODELS}/../escaped/modeling_x.py",
    "../transformers/escaped.py",
    "/escaped/modeling_x.py",
    f"{MODELS}/..\\..\\escaped/modeling_x.py",
    f"{MODELS}\\x\\modeling_x.py",
    f"{MODELS}/C:/modeling_x.py",
    f"{MODELS}/x/modeling_x.py:stream.py",
]


def members(tree: Path) -> dict[str, bytes]:
    files = (path for path in sorted(tree.rglob("*")) if path.is_file())
    return {f"transformers/{path.relative_to(tree).as_posix()}": path.read_bytes() for path in files}


def wheel(path: Path, contents: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path / "transformers-5.99.0-py3-none-any.whl", "w") as archive:
        for name, content in contents:
            archive.writestr(name, content)
        return Path(archive.filename or "")


def sdist(path: Path, contents: list[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path / "transformers-5.99.0.tar.gz", "w:gz") as archive:
        for name, content in contents:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        return path / "transformers-5.99.0.tar.gz"


@pytest.mark.parametrize("pack", [wheel, sdist])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_member_that_would_leave_its_folder_is_refused_by_name(
    pack: Callable[..., Path], name: str, tree: Path, tmp_path: Path
) -> None:
    contents = [*members(tree).items(), (name, members(tree)[f"{MODELS}/llama/modeling_llama.py"])]
    with pytest.raises(SourceError, match="would not stay in its folder") as raised:
        open_source(str(pack(tmp_path, contents)))
    assert repr(name) in str(raised.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_written_anywhere_else(layout: str, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    archive = wheel(tmp_path / "room", [*members(tree).items(), (OUTSIDE[0], b"labels")])
    command = [sys.executable, "-m", "fusegen", "emit", "--source", archive, "--layout", layout]
    done = subprocess.run(
        [*command, "--out", tmp_path / "room/a/b/c/out"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "escaped/modeling_x.py" in done.stderr
    assert [path.name for path in (tmp_path / "room").rglob("*")] == [archive.name]


def linked(kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(f"{MODELS}/bird/modeling_link.py")
    member.type, member.linkname = kind, "../../../../etc/passwd"
    return member


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_an_sdist_is_refused_by_name(kind: bytes, tree: Path, tmp_path: Path) -> None:
    archive = sdist(tmp_path, [*members(tree).items(), (linked(kind), b"")])
    with pytest.raises(SourceError, match=r"'transformers/models/bird/modeling_link\.py' is a link or no regular file"):
        open_source(str(archive))


def test_a_folder_of_an_sdist_that_is_a_link_is_refused_by_name(tree: Path, tmp_path: Path) -> None:
    folder = tarfile.TarInfo(f"{MODELS}/other")
    folder.type, folder.linkname = tarfile.SYMTYPE, "/tmp"
    below = (f"{MODELS}/other/modeling_other.py", members(tree)[f"{MODELS}/llama/modeling_llama.py"])
    with pytest.raises(SourceError, match="'transformers/models/other' is a link"):
        open_source(str(sdist(tmp_path, [(folder, b""), *members(tree).items(), below])))


def test_a_link_in_a_wheel_is_refused_by_name(tree: Path, tmp_path: Path) -> None:
    link = zipfile.ZipInfo(f"{MODELS}/bird/modeling_link.py")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with pytest.raises(SourceError, match=r"modeling_link\.py' is a link or no regular file"):
        open_source(str(wheel(tmp_path, [*members(tree).items(), (link, b"/etc/passwd")])))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack", [wheel, sdist])
def test_a_member_that_is_there_twice_is_refused_by_name(pack: Callable[..., Path], tree: Path, tmp_path: Path) -> None:
    name = f"{MODELS}/llama/modeling_llama.py"
    with pytest.raises(SourceError, match=f"'{name}' is there 2 times"):
        open_source(str(pack(tmp_path, [*members(tree).items(), (name, b"# other")])))


def test_a_link_elsewhere_in_an_sdist_does_not_matter(tree: Path, tmp_path: Path) -> None:
    link = tarfile.TarInfo("transformers-5.99.0/README.md")
    link.type, link.linkname = tarfile.SYMTYPE, "docs/README.md"
    inside = [(f"./transformers-5.99.0/src/{name}".removeprefix("./"), text) for name, text in members(tree).items()]
    assert open_source(str(sdist(tmp_path, [(link, b""), *inside]))).paths() == open_source(str(tree)).paths()


def test_a_header_that_unpacks_to_too_much_is_refused(tree: Path, tmp_path: Path) -> None:
    """Comments of any length stand before a member, which tarfile reads whole: 64 MB of them are 64 kB here."""
    llama = tarfile.TarInfo(f"{MODELS}/llama/modeling_llama.py")
    llama.pax_headers = {"comment": "0" * (64 * 2**20)}
    with pytest.raises(SourceError, match="a header in it is longer than a source file may be"):
        open_source(str(sdist(tmp_path, [(llama, b""), *members(tree).items()])))


# -- the writer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["../x.py", "/x.py", "a/../../x.py", "a\\b.py", "C:x.py", "a/C:/x.py", "a//b.py", "./a.py", "", "a/", "a\0b"],
)
def test_the_writer_checks_every_path_itself(path: str, tmp_path: Path) -> None:
    assert why_not_below(path) is not None
    out = tmp_path / "deep/out"
    for act in (write, compare):
        with pytest.raises(WriteError, match="cannot be written there"):
            act(out, {MANIFEST: "{}", path: "x"})
    assert not out.exists()
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []


@pytest.mark.parametrize("path", ["a.py", "a/b.py", "a b/ж.py", "...", "a/..b/c.py"])
def test_plain_paths_are_fine(path: str) -> None:
    assert why_not_below(path) is None


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        (["Llama/x.py", "llama/x.py"], "llama/x.py differs from Llama/x.py in case only"),
        (["manifest.json", "manifest.json/x.py"], "manifest.json/x.py manifest.json is a file"),
        (["a/b/c.py", "a/B"], "a/b/c.py a/B is a file"),
    ],
)
def test_paths_that_cannot_stand_together_are_refused(paths: list[str], why: str, tmp_path: Path) -> None:
    wrong = why_not_a_tree(paths)
    assert wrong is not None
    path, said = wrong
    assert f"{path} {said}".replace("it ", "") == why
    with pytest.raises(WriteError, match="cannot be written there"):
        write(tmp_path / "out", dict.fromkeys(paths, ""))
    assert not (tmp_path / "out").exists()


def test_what_is_removed_is_not_looked_for_behind_a_link(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    files = emit(open_source(str(tree)), "1.2.3", jobs=1).files
    write(out, files)
    (out / "llama").rename(tmp_path / "mine")
    (out / "llama").symlink_to(tmp_path / "mine")
    monkeypatch.chdir(out)
    with pytest.raises(WriteError, match="llama: was not written by fusegen"):
        write(out, {path: text for path, text in files.items() if not path.startswith("llama/")})
    assert (tmp_path / "mine/modeling_llama.py").is_file()


@pytest.mark.parametrize("path", ["../x.py", "a\\..\\x.py", "/etc/passwd", "C:/x"])
def test_a_manifest_that_names_files_elsewhere_is_refused(path: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({"files": {path: "0"}, "classes": []}))
    with pytest.raises(WriteError, match="names files outside of its folder"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "text", ['{"files": {}, "classes": ["a"]}', '{"files": {}, "classes": {"a": 1}}', "[" * 100_000]
)
def test_a_manifest_of_another_shape_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(WriteError, match="not a manifest of fusegen"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("out", ["/", "loop"])
def test_a_folder_that_is_none_is_refused(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(WriteError, match="Choose another --out"):
        write(Path(out), {MANIFEST: "{}"})


# -- names -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the file system has names that are text")
def test_a_name_that_is_not_utf8_is_a_failure_with_its_bytes(tree: Path) -> None:
    folder = os.fsencode(tree) + b"/models/b\xffd"
    os.mkdir(folder)
    for name in (b"modeling_b\xffd.py", b"modeling_bad.py"):
        Path(os.fsdecode(folder + b"/" + name)).write_bytes((tree / "models/llama/modeling_llama.py").read_bytes())
    report = scan(open_source(str(tree)), jobs=1)
    assert report.count("match") == 2
    assert [(failure.file, failure.message) for failure in report.failures] == [
        (f"models/b\\xffd/{name}", "cannot be read: its name is not UTF-8")
        for name in ("modeling_b\\xffd.py", "modeling_bad.py")
    ]


def test_a_member_whose_name_is_not_utf8_is_a_failure_with_its_bytes(tree: Path, tmp_path: Path) -> None:
    name = f"{MODELS}/llama/modeling_\udcff.py"
    contents = [*members(tree).items(), (name, members(tree)[f"{MODELS}/llama/modeling_llama.py"])]
    report = scan(open_source(str(sdist(tmp_path, contents))), jobs=1)
    assert [failure.file for failure in report.failures] == ["models/llama/modeling_\\xff.py"]
    assert report.count("match") == 2


@pytest.mark.parametrize("model", ["my-model", "class", "1st", "a b", "a\nb", "a\\b", "x.y"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_whose_name_is_none_in_python_is_placed_or_refused(
    model: str, layout: str, tree: Path, tmp_path: Path
) -> None:
    (tree / "models/llama").rename(tree / "models" / model)
    emission = emit(open_source(str(tree)), "1.2.3", jobs=1, layout=layout)
    assert not any(failure.internal for failure in emission.failures)
    assert not any(path.startswith("..") for path in emission.files)
    (refused,) = [*emission.not_emitted, None][:1]
    if refused is None:
        assert layout == "patch"
        assert f"{model}/modeling_llama.patch" in emission.files
    else:
        assert (refused.code, refused.site) == ("FG604", f"{model}.LlamaForCausalLM.forward")
        assert model in refused.detail or "a patch cannot spell" in refused.detail
    write(tmp_path / "out", emission.files)


def test_a_version_cannot_add_lines_to_what_is_generated(tree: Path) -> None:
    (tree / "__init__.py").write_text("__version__ = '5.0\nimport os\n#'\n")
    emission = emit(open_source(str(tree)), "1.2.3", jobs=1)
    assert all("import os" not in text for text in emission.files.values())
