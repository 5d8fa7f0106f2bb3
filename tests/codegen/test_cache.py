from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from fusegen.codegen import cache as cache_module
from fusegen.codegen.cache import Cache, cache_directory, code_fingerprint, digest
from fusegen.codegen.records import (
    MATCH,
    Aside,
    Failure,
    FileReport,
    Head,
    Operation,
    Site,
    Use,
    VocabularyLoss,
    file_report_from_json,
)

PATH = "models/x/modeling_x.py"
REPORT = FileReport(
    PATH,
    sites=(
        Site(
            "x.XForCausalLM.forward",
            "x",
            PATH,
            "XForCausalLM",
            "forward",
            line=9,
            column=4,
            verdict=MATCH,
            losses=(
                VocabularyLoss(
                    "causal",
                    "self.loss_function",
                    "shifted",
                    "labels",
                    None,
                    (("**", "kwargs"),),
                    Head("self.lm_head", "self.lm_head", "h", before=("self.norm",), line=7),
                    (Operation("soft_cap", (("cap", "30.0"),), "cap is not None", 8),),
                    line=9,
                    column=4,
                ),
            ),
            guards=("self.training",),
            uses=(Use("output", "logits\tand\nmore ∂", 11),),
        ),
    ),
    asides=(Aside("XForTokenClassification.forward", 20, "classes"),),
    failures=(Failure(PATH, 3, "message", internal=True),),
    mentions_labels=True,
)


def opened(directory: Path, rules: str) -> Cache[FileReport]:
    return Cache.open(directory, "scan", rules, file_report_from_json)


def test_a_saved_report_comes_back_equal(tmp_path: Path) -> None:
    first = opened(tmp_path, "1")
    assert first.get(PATH, "digest") is None
    first.put(PATH, "digest", REPORT)
    assert first.get(PATH, "digest") == REPORT
    first.save()
    assert opened(tmp_path, "1").get(PATH, "digest") == REPORT


def test_content_path_and_rules_are_all_part_of_the_key(tmp_path: Path) -> None:
    first = opened(tmp_path, "1")
    first.put(PATH, digest(b"old"), REPORT)
    first.save()
    again = opened(tmp_path, "1")
    assert again.get(PATH, digest(b"new")) is None
    assert again.get("models/y/modeling_y.py", digest(b"old")) is None
    assert opened(tmp_path, "2").get(PATH, digest(b"old")) is None


def test_saving_leaves_no_other_file_and_writes_only_changes(tmp_path: Path) -> None:
    first = opened(tmp_path / "new" / "folder", "1")
    first.put(PATH, "digest", REPORT)
    first.save()
    (file,) = (tmp_path / "new" / "folder").iterdir()
    before = file.stat().st_mtime_ns
    second = opened(tmp_path / "new" / "folder", "1")
    second.get(PATH, "digest")
    second.save()
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"another program's file\n", b"fusegen cache 0\t1\n", b"fusegen cache 1\tother rules\n"],
)
def test_a_foreign_file_is_ignored_with_a_log_line(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = opened(tmp_path, "1")
    first.put(PATH, "digest", REPORT)
    first.save()
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        again = opened(tmp_path, "1")
    assert again.get(PATH, "digest") is None
    assert "ignored the cache" in caplog.text
    again.put(PATH, "digest", REPORT)
    again.save()
    assert opened(tmp_path, "1").get(PATH, "digest") == REPORT


@pytest.mark.parametrize("damage", ['{"path": 1}', "{", "[]", "null", '{"path":"p","sites":[{"id":1}]}'])
def test_a_damaged_entry_is_ignored_and_others_stand(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = opened(tmp_path, "1")
    first.put(PATH, "digest", REPORT)
    first.put("models/y/modeling_y.py", "digest", replace(REPORT, path="models/y/modeling_y.py"))
    first.save()
    (file,) = tmp_path.iterdir()
    header, _, last = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([header, f"digest\t{PATH}\t{damage}", "no tabs at all", last]), encoding="utf-8")
    again = opened(tmp_path, "1")
    with caplog.at_level(logging.WARNING):
        assert again.get(PATH, "digest") is None
    assert "damaged entry" in caplog.text
    assert again.get("models/y/modeling_y.py", "digest") is not None


def test_entries_of_old_runs_go_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_ENTRIES", 3)
    first = opened(tmp_path, "1")
    for number in range(3):
        first.put(PATH, f"old {number}", REPORT)
    first.save()
    second = opened(tmp_path, "1")
    assert second.get(PATH, "old 2") is not None
    second.put(PATH, "new", REPORT)
    second.save()
    third = opened(tmp_path, "1")
    kept = [name for name in ("old 0", "old 1", "old 2", "new") if third.get(PATH, name)]
    assert kept == ["old 0", "old 2", "new"]


def test_files_of_old_rules_go_when_there_are_too_many(tmp_path: Path) -> None:
    for number in range(6):
        store = opened(tmp_path, str(number))
        store.put(PATH, "digest", REPORT)
        store.save()
    assert len(list(tmp_path.iterdir())) == cache_module.MAX_FILES
    assert opened(tmp_path, "5").get(PATH, "digest") == REPORT


def test_a_directory_that_cannot_be_written_is_a_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    store = opened(tmp_path / "file", "1")
    store.put(PATH, "digest", REPORT)
    with caplog.at_level(logging.WARNING):
        store.save()
    assert "cannot write the cache" in caplog.text


def test_the_environment_chooses_the_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUSEGEN_CACHE_DIR", str(tmp_path))
    assert cache_directory() == tmp_path
    monkeypatch.delenv("FUSEGEN_CACHE_DIR")
    assert "fusegen" in cache_directory().name


def test_the_fingerprint_follows_the_text_of_rules_and_templates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("codegen/rule.py", "codegen/report/full.py", "templates/branch.py.j2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(cache_module, "__file__", str(tmp_path / "codegen/cache.py"))
    first = code_fingerprint()
    (tmp_path / "codegen/report/full.py").write_text("2")
    assert code_fingerprint() == first
    for name in ("codegen/rule.py", "templates/branch.py.j2"):
        (tmp_path / name).write_text("2")
        assert code_fingerprint() != first
        (tmp_path / name).write_text("1")
