from __future__ import annotations

import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fusegen.codegen import pipeline
from fusegen.codegen.decoding import MAX_FILE_BYTES
from fusegen.codegen.sources import SourceError, open_source

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")

LLAMA = "models/llama/modeling_llama.py"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(write_tree: Callable[..., Path], tmp_path: Path) -> Path:
    """Two commits, tagged v1 and v2; the working tree has been emptied since."""
    folder = tmp_path / "checkout"
    package = write_tree(into=folder / "src")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    git(folder, "tag", "v1")
    text = (package / LLAMA).read_text()
    (package / LLAMA).write_text(text.replace("loss = None", "logits = logits * self.scale\n        loss = None"))
    git(folder, "commit", "--quiet", "-am", "two")
    git(folder, "tag", "v2")
    shutil.rmtree(folder / "src")
    return folder


def test_a_revision_is_read_without_checking_it_out(checkout: Path) -> None:
    old, new = (open_source(f"{checkout}@{revision}") for revision in ("v1", "v2"))
    assert (old.version, old.paths()) == ("5.99.0", new.paths())
    assert old.left_out() == ("models/deprecated/old/modeling_old.py",)
    assert old.read(LLAMA) != new.read(LLAMA)
    assert old.read("models/llama/nothing.py") is None
    assert old.read("models/llama") is None
    assert not (checkout / "src").exists()


@pytest.mark.parametrize("revision", ["v1", "HEAD~1", "v2~1"])
def test_revisions_that_are_the_same_commit_are_the_same_source(checkout: Path, revision: str) -> None:
    assert open_source(f"{checkout}@{revision}") == open_source(f"{checkout}@{git(checkout, 'rev-parse', 'v1')}")


def test_it_can_be_sent_to_another_process_and_scanned(checkout: Path) -> None:
    source = open_source(f"{checkout}@v1")
    assert pickle.loads(pickle.dumps(source)) == source
    assert pipeline.scan(source, jobs=2).count("match") == 2


@pytest.mark.parametrize("place", ["src/transformers", "vendor/tf", "vendor/tf/src", "vendor/link"])
def test_a_folder_of_a_repository_is_read_as_a_directory_is(
    checkout: Path, write_tree: Callable[..., Path], place: str
) -> None:
    git(checkout, "checkout", "--quiet", "v1", "--", "src")
    write_tree(into=checkout / "vendor/tf/src")
    (checkout / "vendor/link").symlink_to(checkout / "vendor/tf")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "vendored")
    directory, revision = open_source(f"{checkout / place}"), open_source(f"{checkout / place}@HEAD")
    assert (revision.location, revision.paths()) == (directory.location, directory.paths())
    assert [file.content for file in revision.files()] == [file.content for file in directory.files()]


def test_a_folder_without_the_package_at_that_revision_says_so(checkout: Path, write_tree: Callable[..., Path]) -> None:
    write_tree(into=checkout / "vendor/tf/src")
    with pytest.raises(SourceError, match="vendor/tf at v1 holds no transformers package: neither it, nor"):
        open_source(f"{checkout / 'vendor/tf'}@v1")


def test_a_bare_repository_is_enough(checkout: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(checkout), "bare.git")
    assert open_source(f"{tmp_path / 'bare.git'}@v1").version == "5.99.0"


@pytest.mark.parametrize("revision", ["v3", "--all", "v1:src", ""])
def test_a_revision_that_is_none_says_so(checkout: Path, revision: str) -> None:
    with pytest.raises(SourceError, match="has no revision"):
        open_source(f"{checkout}@{revision}")


def test_a_folder_that_is_no_repository_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"git cannot read .*not a git repository"):
        open_source(f"{tmp_path}@v1")


def test_a_revision_of_something_else_says_so(checkout: Path) -> None:
    git(checkout, "commit", "--quiet", "-am", "nothing left")
    with pytest.raises(SourceError, match="holds no transformers package"):
        open_source(f"{checkout}@HEAD")


def test_a_huge_file_is_a_failure_and_the_next_is_read(checkout: Path) -> None:
    git(checkout, "checkout", "--quiet", "v1", "--", "src")
    (checkout / "src/transformers/models/bird/modeling_bird.py").write_bytes(b"#" * (MAX_FILE_BYTES + 5))
    git(checkout, "commit", "--quiet", "-am", "huge")
    report = pipeline.scan(open_source(f"{checkout}@HEAD"), jobs=1)
    assert [failure.file for failure in report.failures] == ["models/bird/modeling_bird.py"]
    assert "larger than 16 MB" in report.failures[0].message
    assert report.count("match") == 2


@pytest.mark.parametrize(("name", "target"), [("bird/modeling_link.py", "modeling_bird.py"), ("other", "bird")])
def test_a_link_in_a_revision_is_refused_by_name(checkout: Path, name: str, target: str) -> None:
    git(checkout, "checkout", "--quiet", "v1", "--", "src")
    (checkout / "src/transformers/models" / name).symlink_to(target)
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "link")
    with pytest.raises(SourceError, match=f"'models/{name}' at .*: it is a link"):
        open_source(f"{checkout}@HEAD").paths()


def test_a_link_that_can_be_no_model_does_not_matter(checkout: Path) -> None:
    git(checkout, "checkout", "--quiet", "v1", "--", "src")
    (checkout / "src/transformers/models/bird/README.md").symlink_to("/etc/motd")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "link")
    assert pipeline.scan(open_source(f"{checkout}@HEAD"), jobs=1).count("match") == 2


def test_a_folder_of_a_revision_that_leads_upwards_is_refused_by_name(checkout: Path) -> None:
    git(checkout, "checkout", "--quiet", "v1", "--", "src")

    def tree(entries: str) -> str:
        made = subprocess.run(
            ["git", "mktree", "--missing"], cwd=checkout, input=entries, capture_output=True, text=True, check=True
        )
        return made.stdout.strip()

    llama, init = (git(checkout, "rev-parse", f"v1:src/transformers/{path}") for path in (LLAMA, "__init__.py"))
    folder = tree(f"100644 blob {llama}\tmodeling_x.py\n")
    models = tree(f"040000 tree {folder}\t..\n")
    package = tree(f"100644 blob {init}\t__init__.py\n040000 tree {models}\tmodels\n")
    made = git(checkout, "commit-tree", package, "-m", "crafted")
    with pytest.raises(SourceError, match=r"models/\.\./modeling_x\.py.*leads upwards"):
        open_source(f"{checkout}@{made}").paths()
