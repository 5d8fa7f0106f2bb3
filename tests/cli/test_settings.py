from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


def settings(folder: Path, text: str, name: str = "pyproject.toml") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    file = folder / name
    file.write_text(text)
    return file


def test_the_nearest_table_upwards_gives_the_defaults(fusegen: Run, tree: Path, work: Path) -> None:
    settings(work.parent, f'[tool.fusegen]\nsource = "{tree}"\nformat = "concise"\nselect = ["match"]\n')
    settings(work, "[tool.other]\nfusegen = 1\n")
    result = fusegen("scan")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 2


def test_command_line_over_environment_over_file(fusegen: Run, tree: Path, work: Path) -> None:
    settings(work, f'[tool.fusegen]\nsource = "{tree}"\nformat = "markdown"\nselect = "match"\n')
    environment = {"FUSEGEN_OUTPUT_FORMAT": "concise"}
    assert fusegen("scan").stdout.startswith("### fusegen")
    assert fusegen("scan", env=environment).stdout.startswith("models/gemma")
    assert fusegen("scan", "--select", "reject", env=environment).stdout.startswith("models/edited")
    assert fusegen("scan", "--format", "json", env=environment).stdout.startswith("{")


def test_every_setting_reaches_its_option(fusegen: Run, tree: Path, work: Path) -> None:
    settings(
        work,
        f"""
        [tool.fusegen]
        source = "{tree}"
        format = "concise"
        model = ["edited", "gemma"]
        ignore = ["soft_cap"]
        fail-on = ["reject"]
        jobs = 1
        cache = false
        """,
    )
    result = fusegen("scan")
    assert result.exit_code == 1
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["models/edited/modeling_edited.py"]


def test_a_relative_source_is_found_from_the_file(fusegen: Run, write_tree: Callable[..., Path], work: Path) -> None:
    write_tree(into=work.parent / "vendored")
    settings(work.parent, '[tool.fusegen]\nsource = "vendored"\n')
    assert fusegen("scan").exit_code == 0


def test_config_names_another_file(fusegen: Run, tree: Path, work: Path) -> None:
    settings(work, '[tool.fusegen]\nformat = "json"\n')
    other = settings(work / "ci", '[tool.fusegen]\nformat = "concise"\n', "strict.toml")
    assert fusegen("scan", "--source", tree, "--config", other).stdout.startswith("models/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[tool.fusegen]\nformatt = "json"\n', "unknown setting 'formatt' in [tool.fusegen]. Did you mean 'format'?"),
        ("[tool.fusegen]\nzzz = 1\n", "unknown setting 'zzz'"),
        ("[tool.fusegen]\nselect = 3\n", "'select' in [tool.fusegen] must be a list of strings, not 3"),
        ("[tool.fusegen]\nselect = [3]\n", "must be a list of strings"),
        ("[tool.fusegen]\njobs = true\n", "'jobs' in [tool.fusegen] must be an integer"),
        ("[tool.fusegen]\njobs = 0\n", "jobs"),
        ('[tool.fusegen]\nformat = "yaml"\n', "yaml"),
        ("[tool]\nfusegen = 1\n", "must be a table"),
        ("[tool.fusegen\n", "is not valid TOML"),
    ],
)
def test_settings_that_cannot_be_used_are_status_2(fusegen: Run, tree: Path, work: Path, text: str, said: str) -> None:
    settings(work, text)
    result = fusegen("scan", "--source", tree)
    assert result.exit_code == 2
    assert said in result.stderr


def test_config_without_the_table_is_status_2(fusegen: Run, tree: Path, work: Path) -> None:
    result = fusegen("scan", "--source", tree, "--config", settings(work, "[tool.other]\n", "x.toml"))
    assert result.exit_code == 2
    assert "has no [tool.fusegen] table" in result.stderr


def test_settings_of_scan_do_not_disturb_other_commands(fusegen: Run, tree: Path, work: Path) -> None:
    settings(work, f'[tool.fusegen]\nsource = "{tree}"\nformat = "concise"\nselect = ["match"]\n')
    result = fusegen("explain", "LlamaForCausalLM")
    assert result.exit_code == 0, result.output
