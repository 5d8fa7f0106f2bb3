"""Which classes of a manifest are verified, whatever its models are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusegen.verify import targets
from fusegen.verify.targets import read_targets


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package named `zoo` with one model whose name has a dot and whose file is not UTF-8."""
    folder = tmp_path / "zoo/models/my.model"
    folder.mkdir(parents=True)
    (tmp_path / "zoo/__init__.py").touch()
    (folder / "modeling_my.py").write_bytes(b"# \xff\nclass MyForCausalLM(Base): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_what_was_not_emitted_is_found_by_the_last_parts_of_its_id(package: Path) -> None:
    sites = ["my.model.MyForCausalLM.forward", "my.function"]
    manifest = {
        "source": {"package": "zoo"},
        "classes": [],
        "not_emitted": [{"site": site, "code": "FG604"} for site in sites],
    }
    (package / targets.MANIFEST).write_text(json.dumps(manifest))
    found = read_targets(package)
    assert [(each.model, each.class_name, each.method) for each in found] == [
        ("my.model", "MyForCausalLM", "forward"),
    ]
