from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from fusegen.cli.rule import every_reason

REASONS = every_reason()
ROOT = Path(__file__).parents[2]
Run = Callable[..., Result]


def test_every_code_is_listed_in_order(fusegen: Run) -> None:
    result = fusegen("rule")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == sorted(REASONS)


@pytest.mark.parametrize("code", sorted(REASONS))
def test_a_code_is_explained_with_example_and_way_out(fusegen: Run, code: str) -> None:
    text = fusegen("rule", code).stdout
    reason = REASONS[code]
    assert text.startswith(f"{code} {reason.name}: {reason.summary}\n")
    assert all(line in text for line in reason.example.splitlines())
    assert reason.remedy.split()[0] in text


def test_case_does_not_matter_and_the_name_will_do(fusegen: Run) -> None:
    code, reason = next(iter(REASONS.items()))
    assert fusegen("rule", code.lower()).stdout == fusegen("rule", code).stdout
    assert fusegen("rule", reason.name).stdout == fusegen("rule", code).stdout


def test_json_has_every_field(fusegen: Run) -> None:
    document = json.loads(fusegen("rule", "--format", "json").stdout)
    assert document["schema_version"] == 1
    assert [rule["code"] for rule in document["rules"]] == sorted(REASONS)
    assert set(document["rules"][0]) == {"code", "name", "summary", "why", "example", "remedy"}


def test_every_code_in_the_source_can_be_explained(fusegen: Run) -> None:
    """Whatever a part of fusegen may print is a code between quotes somewhere in it."""
    folders = (path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name not in ("generated", "tests"))
    files = (file for folder in folders for file in folder.rglob("*.py"))
    spelled = {code for file in files for code in re.findall(r"""["'](FG\d{3})["']""", file.read_text("utf-8"))}
    assert len(spelled) > 40
    assert spelled - set(REASONS) == set()


def test_a_name_means_one_code(fusegen: Run) -> None:
    assert len({reason.name for reason in REASONS.values()}) == len(REASONS)
    assert all(code == reason.code for code, reason in REASONS.items())


def test_a_code_of_a_running_program_is_explained(fusegen: Run) -> None:
    result = fusegen("rule", "fg513")
    assert result.exit_code == 0
    assert result.stdout.startswith("FG513 head-hooks: calling the head would run hooks")


def test_an_unknown_code_is_status_2(fusegen: Run) -> None:
    result = fusegen("rule", "FG999")
    assert result.exit_code == 2
    assert "there is no reason code 'FG999'" in result.stderr
