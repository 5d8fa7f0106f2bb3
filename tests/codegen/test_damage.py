"""Trees with something wrong in them: each wrong thing has a message and a place, and the rest is read."""

from __future__ import annotations

import contextlib
import os
import py_compile
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from fusegen.cli import cli
from fusegen.codegen import archives, pipeline
from fusegen.codegen.archives import ArchiveError, open_archive
from fusegen.codegen.decoding import MAX_FILE_BYTES, decode
from fusegen.codegen.emit import emit
from fusegen.codegen.layouts import LAYOUTS
from fusegen.codegen.records import ScanReport
from fusegen.codegen.sources import SourceError, open_source

LLAMA = "models/llama/modeling_llama.py"
GEMMA = "models/gemma/modeling_gemma.py"
BIRD = "models/bird/modeling_bird.py"


def scanned(spec: Path | str) -> tuple[ScanReport, dict[str, tuple[int, str]]]:
    """The report on a tree, and its failures by file: line and message. None of them is a bug."""
    report = pipeline.scan(open_source(str(spec)), jobs=1)
    assert not any(failure.internal for failure in report.failures)
    return report, {failure.file: (failure.line, failure.message) for failure in report.failures}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments])


def make_wheel(root: Path, wheel: Path, *, record: str | None = None) -> Path:
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.py")):
            archive.write(path, path.relative_to(root.parent).as_posix())
        if record is not None:
            archive.writestr("transformers-5.99.0.dist-info/RECORD", record)
    return wheel


class TestText:
    @pytest.mark.parametrize(
        ("content", "line", "message"),
        [
            (b"labels((", 3, "'(' was never closed"),
            (b"labels, '\xff')", 3, "byte 0xff is not utf-8"),
            (b"# labels \xff\n", 1, "byte 0xff is not utf-8"),
            (b"# coding: ascii\n# labels\nx = '\xc3'\n", 3, "byte 0xc3 is not ascii"),
            (b"# coding: klingon\n# labels\n", 1, "unknown encoding: klingon"),
            (b"# coding: rot13\n# labels\n", 1, "'rot13' is no encoding of text"),
            (b"\xef\xbb\xbf# coding: latin-1\n# labels\n", 1, "encoding problem: utf-8"),
            (b"labels, '\x00')", 0, "null bytes"),
            (b"(" * 5000 + b")" * 5000 + b")", 3, "too many nested parentheses"),
            (b"-" * 100_000 + b"labels)", 2, "nested too deeply"),
        ],
        ids=["syntax", "byte", "byte-at-once", "ascii", "unknown", "rot13", "mark", "null", "parentheses", "signs"],
    )
    def test_what_is_no_python_has_a_place(self, tree: Path, content: bytes, line: int, message: str) -> None:
        """Content that begins with no comment or mark stands in the call of a loss."""
        call = b"class BirdForCausalLM:\n    def forward(self, labels):\n        loss = self.loss_function("
        (tree / BIRD).write_bytes(content if content[:1] in b"#\xef" else call + content + b"\n")
        report, failures = scanned(tree)
        assert failures.keys() == {BIRD}
        assert failures[BIRD][0] == line
        assert message in failures[BIRD][1]
        assert report.count("match") == 2
        assert run("scan", "--source", tree).exit_code == 0

    @pytest.mark.parametrize(
        ("content", "line", "message"),
        [(b"x = 1\nLOSS_MAPPING = {", 2, "not Python"), (b"LOSS_MAPPING = made()\n", 0, "LOSS_MAPPING as one dict")],
    )
    def test_what_the_losses_of_a_tree_are_must_be_readable(
        self, tree: Path, content: bytes, line: int, message: str
    ) -> None:
        (tree / "loss").mkdir(exist_ok=True)
        (tree / "loss/loss_utils.py").write_bytes(content)
        report, failures = scanned(tree)
        assert report.count("match") == 2
        assert failures.keys() == {"loss/loss_utils.py"}
        assert failures["loss/loss_utils.py"][0] == line
        assert message in failures["loss/loss_utils.py"][1]
        assert "loss/loss_utils.py" not in report.models

    @pytest.mark.parametrize("wrong", [")", "def f(self)", "'", "lambda", "   pass", "nonlocal x"])
    def test_an_error_on_any_line_is_said(self, tree: Path, wrong: str) -> None:
        """Half of the lines stand in a class that holds no site, where the reader of functions never looks."""
        lines = (tree / LLAMA).read_text().split("\n")
        for number in range(len(lines)):
            text = "\n".join([*lines[:number], wrong, *lines[number:]])
            (tree / LLAMA).write_text(text)
            try:
                compile(text, LLAMA, "exec")
                expected = {}
            except SyntaxError as error:
                expected = {LLAMA: (error.lineno, f"not Python: {error.msg}")}
            assert scanned(tree)[1] == expected

    def test_byte_code_proves_a_file_until_it_changes(self, tree: Path) -> None:
        file = tree / LLAMA
        source = open_source(str(tree))
        assert not source.is_compiled(LLAMA)
        code = Path(py_compile.compile(str(file), doraise=True) or "")
        assert source.is_compiled(LLAMA)
        for_this_python = code.read_bytes()
        code.write_bytes(b"\0\0\r\n" + for_this_python[4:])
        assert not source.is_compiled(LLAMA)
        code.write_bytes(for_this_python)
        assert source.is_compiled(LLAMA)
        file.write_text(file.read_text() + "\n\ndef broken(:\n")
        assert not source.is_compiled(LLAMA)
        assert scanned(tree)[1].keys() == {LLAMA}

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_nothing_is_emitted_of_a_file_with_an_error_in_an_archive(
        self, tree: Path, tmp_path: Path, layout: str
    ) -> None:
        """A scan takes what was published to be Python where it does not read."""
        text = (tree / LLAMA).read_text() + "\n\ndef broken(:\n"
        (tree / LLAMA).write_text(text)
        wheel = make_wheel(tree, tmp_path / "a.whl")
        assert scanned(wheel)[0].count("match") == 2
        emission = emit(open_source(str(wheel)), "1.0", layout=layout, jobs=1)
        assert [site.model for site in emission.emitted] == ["gemma"]
        (failure,) = emission.failures
        assert (failure.file, failure.line, failure.internal) == (LLAMA, text.count("\n"), False)

    def test_what_an_archive_was_taken_for_is_not_taken_from_the_cache(self, tree: Path, tmp_path: Path) -> None:
        (tree / LLAMA).write_text((tree / LLAMA).read_text() + "\n\ndef broken(:\n")
        assert LLAMA not in run("scan", "--source", make_wheel(tree, tmp_path / "a.whl")).stderr
        for _ in range(2):
            assert f"{LLAMA}:" in run("scan", "--source", tree).stderr

    @pytest.mark.parametrize(
        "prefix", ["\ufeff", "# -*- coding: utf-8 -*-\n", "# caf\u00e9\n", "\x0c\n", "# \u2028\x85\n"]
    )
    @pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
    def test_other_spellings_of_the_same_text_are_the_same_forward(
        self, tree: Path, prefix: str, line_end: str
    ) -> None:
        text = (tree / LLAMA).read_text()
        (tree / LLAMA).write_bytes((prefix + text).replace("\n", line_end).encode())
        report, failures = scanned(tree)
        assert failures == {}
        (site,) = (site for site in report.sites if site.file == LLAMA)
        first = prefix.count("\n")
        assert (site.verdict, site.line) == (
            "match",
            text.split("\n").index("        if labels is not None:") + 2 + first,
        )

    def test_a_latin_1_file_is_read_as_its_coding_line_says(self, tree: Path) -> None:
        text = "# coding: latin-1\n# caf\xe9\n" + (tree / LLAMA).read_text()
        (tree / LLAMA).write_bytes(text.encode("latin-1"))
        assert decode((tree / LLAMA).read_bytes()) == text
        assert scanned(tree)[1] == {}

    def test_a_string_with_an_odd_line_end_moves_no_line(self, tree: Path) -> None:
        """A form feed ends a line for `str.splitlines` and not for Python; `class` in a string forces a whole parse."""
        text = 'note = """\nclass Nothing:\n\x0c\u2028"""\n' + (tree / LLAMA).read_text()
        (tree / LLAMA).write_text(text)
        report, _ = scanned(tree)
        (site,) = (site for site in report.sites if site.file == LLAMA)
        assert "self.loss_function" in text.split("\n")[site.line - 1]

    def test_a_form_feed_before_a_class_hides_no_class(self, tree: Path) -> None:
        text = (tree / LLAMA).read_text()
        ibis = text.replace("Llama", "Ibis").replace("class IbisForCausalLM", "\x0cclass IbisForCausalLM")
        (tree / LLAMA).write_text(text + ibis)
        report, _ = scanned(tree)
        assert {"LlamaForCausalLM", "IbisForCausalLM"} <= {site.class_name for site in report.sites}

    def test_a_forward_that_is_too_deep_leaves_the_others_of_its_file(self, tree: Path) -> None:
        deep = " + ".join(["logits"] * 3000)
        added = (tree / LLAMA).read_text().replace("Llama", "Deep").replace("logits = ", f"logits = {deep} + ", 1)
        (tree / LLAMA).write_text((tree / LLAMA).read_text() + "\n\n" + added)
        report, failures = scanned(tree)
        assert "nested too deeply" in failures[LLAMA][1]
        assert report.count("match") >= 1


class TestFolders:
    def test_a_huge_file_is_not_read(self, tree: Path) -> None:
        (tree / BIRD).write_bytes(b"# labels\n" + b"#" * MAX_FILE_BYTES)
        report, failures = scanned(tree)
        assert "larger than 16 MB" in failures[BIRD][1]
        assert report.count("match") == 2

    def test_a_file_that_vanishes_while_others_are_read(self, tree: Path) -> None:
        source = open_source(str(tree))
        assert BIRD in source.paths()
        (tree / BIRD).unlink()
        report = pipeline.scan(source, jobs=1)
        assert [failure.file for failure in report.failures] == [BIRD]
        assert "vanished" in report.failures[0].message
        assert report.count("match") == 2

    def test_links_in_a_circle(self, tree: Path) -> None:
        (tree / "models/llama/again").symlink_to(tree / "models", target_is_directory=True)
        (tree / "models/llama/top").symlink_to("/", target_is_directory=True)
        (tree / "models/gemma/self").symlink_to("self")
        (tree / "models/bird/modeling_lost.py").symlink_to("nowhere.py")
        report, failures = scanned(tree)
        assert failures.keys() == {
            "models/llama/again",
            "models/llama/top",
            "models/gemma/self",
            "models/bird/modeling_lost.py",
        }
        assert "leads back" in failures["models/llama/again"][1]
        assert "leads back" in failures["models/llama/top"][1]
        assert "cannot be followed" in failures["models/gemma/self"][1]
        assert "link to nothing" in failures["models/bird/modeling_lost.py"][1]
        assert report.count("match") == 2

    def test_two_links_that_lead_to_each_other_end(self, tree: Path) -> None:
        (tree / "models/llama/x").symlink_to(tree / "models/gemma", target_is_directory=True)
        (tree / "models/gemma/y").symlink_to(tree / "models/llama", target_is_directory=True)
        report, failures = scanned(tree)
        assert failures.keys() == {"models/llama/x/y/x", "models/gemma/y/x/y"} or failures.keys() == {
            "models/llama/x/y",
            "models/gemma/y/x",
        }
        assert report.count("match") >= 2

    def test_a_link_to_a_folder_elsewhere_is_followed(self, tree: Path, tmp_path: Path) -> None:
        (tree / "models/llama").rename(tmp_path / "elsewhere")
        (tree / "models/llama").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        assert scanned(tree)[0].count("match") == 2

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_a_pipe_is_not_waited_for(self, tree: Path) -> None:
        os.mkfifo(tree / "models/bird/modeling_pipe.py")
        assert scanned(tree)[1] == {"models/bird/modeling_pipe.py": (0, "this is no regular file")}

    def test_an_empty_tree(self, write_tree: Callable[..., Path], tmp_path: Path) -> None:
        root = write_tree({"__init__.py": "", "models/__init__.py": ""})
        result = run("scan", "--source", root)
        assert (result.exit_code, "no modeling file" in result.stderr) == (2, True)

    def test_a_tree_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "django" / "models").mkdir(parents=True)
        result = run("scan", "--source", tmp_path / "django")
        assert (result.exit_code, "holds no transformers package" in result.stderr) == (2, True)

    def test_only_if_no_file_can_be_read_the_status_is_2(self, tree: Path) -> None:
        for path in (LLAMA, GEMMA, BIRD, "models/edited/modeling_edited.py"):
            assert run("scan", "--source", tree).exit_code == 0
            (tree / path).write_bytes(b"def f(labels):\n    cross_entropy((labels)\n")
        result = run("scan", "--source", tree)
        assert (result.exit_code, "no file could be read" in result.stderr) == (2, True)


class TestWheels:
    def test_a_file_that_is_not_the_recorded_one(self, tree: Path, tmp_path: Path) -> None:
        hashes = "".join(
            f"transformers/{path},sha256={archives._spelled_hash((tree / path).read_bytes())},1\n"
            for path in (LLAMA, GEMMA)
        )
        (tree / GEMMA).write_text((tree / GEMMA).read_text() + "# edited\n")
        report, failures = scanned(make_wheel(tree, tmp_path / "a.whl", record=hashes))
        assert failures.keys() == {GEMMA}
        assert "changed after the wheel was built" in failures[GEMMA][1]
        assert {site.model for site in report.sites} == {"llama", "edited"}

    def test_a_record_that_is_garbage_is_said_and_the_rest_read(self, tree: Path, tmp_path: Path) -> None:
        report, failures = scanned(make_wheel(tree, tmp_path / "a.whl", record="no,\nrecord\n"))
        assert failures.keys() == {"transformers-5.99.0.dist-info/RECORD"}
        assert report.count("match") == 2

    def test_an_encrypted_member(self, tree: Path, tmp_path: Path) -> None:
        wheel = make_wheel(tree, tmp_path / "a.whl")
        with zipfile.ZipFile(wheel) as archive:
            member = archive.getinfo(f"transformers/{GEMMA}")
        content = bytearray(wheel.read_bytes())
        central = content.index(b"PK\x01\x02")
        while content[central + 46 : central + 46 + len(member.filename)] != member.filename.encode():
            central = content.index(b"PK\x01\x02", central + 1)
        for place in (member.header_offset + 6, central + 8):
            (flags,) = struct.unpack_from("<H", content, place)
            struct.pack_into("<H", content, place, flags | 1)
        wheel.write_bytes(content)
        report, failures = scanned(wheel)
        assert failures.keys() == {GEMMA}
        assert "encrypted" in failures[GEMMA][1]
        assert report.count("match") == 1

    def test_a_wheel_that_was_cut_off(self, tree: Path, tmp_path: Path) -> None:
        wheel = make_wheel(tree, tmp_path / "a.whl")
        wheel.write_bytes(wheel.read_bytes()[:-200])
        with pytest.raises(SourceError, match=r"not a whole zip or tar archive\. Give a wheel"):
            open_source(str(wheel))

    def test_a_bomb_is_refused_before_it_unpacks(
        self, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tree / BIRD).write_bytes(b"# labels\n" + b"#" * MAX_FILE_BYTES)
        wheel = make_wheel(tree, tmp_path / "a.whl")
        assert wheel.stat().st_size < MAX_FILE_BYTES / 100
        report, failures = scanned(wheel)
        assert "unpacks to more than 16 MB" in failures[BIRD][1]
        assert report.count("match") == 2
        monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", MAX_FILE_BYTES)
        again = make_wheel(tree, tmp_path / "b.whl")
        with pytest.raises(SourceError, match="says that it unpacks to more than"):
            open_source(str(again))

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_any_byte_may_be_wrong(self, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp("wheel")
        root = folder / "transformers"
        for path in ("__init__.py", LLAMA, GEMMA):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text("# labels\n" * 20)
        wheel = make_wheel(root, folder / "a.whl", record="a,sha256=b,1\n")
        content = bytearray(wheel.read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
            content[place] = data.draw(st.integers(0, 255))
        wheel.write_bytes(content)
        try:
            archive = open_archive(wheel)
        except ArchiveError:
            return
        archive.problems()
        for name in archive.names():
            with contextlib.suppress(ArchiveError):
                archive.read(name)


class TestSdists:
    def test_one_that_was_cut_off_gives_what_it_holds(self, tree: Path, tmp_path: Path) -> None:
        sdist = tmp_path / "a.tar.gz"
        (tree / "noise.txt").write_bytes(os.urandom(200_000))
        with tarfile.open(sdist, "w:gz") as archive:
            for path in ("__init__.py", LLAMA, "noise.txt", GEMMA):
                archive.add(tree / path, f"transformers-5.99.0/src/transformers/{path}")
        sdist.write_bytes(sdist.read_bytes()[:100_000])
        report, failures = scanned(sdist)
        assert {site.model for site in report.sites} == {"llama"}
        assert "what follows was not read" in failures["models"][1]

    def test_a_bomb_is_refused_before_it_unpacks(
        self, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tree / BIRD).write_bytes(b"#" * (MAX_FILE_BYTES + 1))
        sdist = tmp_path / "a.tar.gz"
        with tarfile.open(sdist, "w:gz") as archive:
            archive.add(tree, "transformers-5.99.0/src/transformers")
        monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", MAX_FILE_BYTES)
        with pytest.raises(SourceError, match="says that it unpacks to more than"):
            open_source(str(sdist))
