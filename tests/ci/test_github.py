"""The action, the workflows and the hooks, as far as they go without the service: their commands are run here."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / ".github/workflows").glob("*.yml")
}
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))

LLAMA = "models/llama/modeling_llama.py"


def steps() -> list[tuple[str, dict[str, Any]]]:
    found = [("action", step) for step in ACTION["runs"]["steps"]]
    for name, workflow in WORKFLOWS.items():
        found += [(name, step) for job in workflow["jobs"].values() for step in job["steps"]]
    return found


class Runner:
    """Runs steps as the service does: bash with `-eo pipefail`, inputs in the environment, outputs in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        programs = folder / "programs"
        programs.mkdir()
        self.program("fusegen", f'exec "{sys.executable}" -c "from fusegen.cli import main; main()" "$@"\n')
        self.program("python", f'exec "{sys.executable}" "$@"\n')
        self.program("gh", f'printf "%s\\n" "$*" >> "{folder}/gh.log"; cat "{folder}/gh.says" 2>/dev/null || true\n')
        self.outputs: dict[str, dict[str, str]] = {}
        self.environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}

    def program(self, name: str, body: str) -> None:
        path = self.folder / "programs" / name
        path.write_text(f"#!/bin/bash\n{body}")
        path.chmod(0o755)

    def run(self, step: dict[str, Any], context: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """One `run:` step; `context` gives the values of the expressions in its `env`."""
        output, summary = self.folder / "output", self.folder / "summary.md"
        output.write_text("")
        given = {name: self._value(str(value), context) for name, value in step.get("env", {}).items()}
        files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.folder,
            env=self.environment | given | files,
            capture_output=True,
            text=True,
            check=False,
        )
        if "id" in step:
            self.outputs[step["id"]] = dict(line.split("=", 1) for line in output.read_text().splitlines())
        return done

    def _value(self, text: str, context: dict[str, str]) -> str:
        def replaced(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("steps."):
                _, step, _, key = name.split(".")
                return self.outputs.get(step, {}).get(key, "")
            return {"runner.temp": str(self.temporary), "github.token": "token"}.get(name) or context[name]

        return re.sub(r"\$\{\{ (\S+) \}\}", replaced, text)

    def said_to_gh(self) -> list[str]:
        log = self.folder / "gh.log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    folder = tmp_path / "runner"
    folder.mkdir()
    return Runner(folder)


def test_no_command_holds_an_expression() -> None:
    """What a caller gives reaches a shell as a variable only, never as a part of its program."""
    for name, step in steps():
        assert "${{" not in step.get("run", ""), (name, step)
        if "run" in step:
            unquoted = re.sub(r'"[^"\n]*"|\$\(\(.*?\)\)|\'[^\'\n]*\'', "", step["run"])
            assert re.findall(r"\$[A-Z]\w*", unquoted) == [], (name, step["run"])


def test_every_input_that_is_used_is_declared_and_every_declared_one_is_used() -> None:
    declared = set(ACTION["inputs"])
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == declared
    workflow = WORKFLOWS["fusegen"]
    call = workflow[True]["workflow_call"]  # YAML 1.1 reads the key `on` as true
    text = (ROOT / ".github/workflows/fusegen.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(call["inputs"])
    (used,) = (step["with"] for _, step in steps() if step.get("uses") == "./.fusegen")
    assert set(used) <= declared


def test_every_step_of_the_action_names_its_shell_and_every_output_has_a_step() -> None:
    assert all("shell" in step for step in ACTION["runs"]["steps"] if "run" in step)
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    ids = {step["id"] for step in ACTION["runs"]["steps"] if "id" in step}
    assert set(re.findall(r"steps\.(\w+)\.outputs", text)) <= ids


def of_action(runner: Runner, inputs: dict[str, str]) -> list[subprocess.CompletedProcess[str]]:
    """The action's own commands in order, with its defaults; those whose input is empty are left out."""
    given = {name: spec.get("default", "") for name, spec in ACTION["inputs"].items()} | inputs
    context = {f"inputs.{name}": value for name, value in given.items()} | {
        "github.event.pull_request.number": "7",
        "github.repository": "o/r",
    }
    done = []
    for step in ACTION["runs"]["steps"]:
        needs = re.fullmatch(r"inputs\.([\w-]+) != ''", step.get("if", ""))
        if "run" in step and step["name"] != "Install fusegen" and (not needs or given[needs[1]]):
            done.append(runner.run(step, context))
    return done


@pytest.fixture
def newer(tree: Path, write_tree: Callable[..., Path], tmp_path: Path) -> Path:
    """`tree` with a Llama that edits its logits."""
    files = {path.relative_to(tree).as_posix(): path.read_bytes() for path in tree.rglob("*.py")}
    text = files[LLAMA].decode()
    edited = text.replace("loss = None\n", "logits[0] = 0\n        loss = None\n", 1)
    return write_tree(files | {LLAMA: edited}, into=tmp_path / "newer")


def test_the_action_over_a_tree_that_did_not_change(runner: Runner, tree: Path) -> None:
    generated = runner.folder / "generated"
    emitted = subprocess.run(
        ["fusegen", "emit", "--source", tree, "--out", generated],
        env=runner.environment,
        capture_output=True,
        check=False,
    )
    assert emitted.returncode == 0
    done = of_action(runner, {"source": str(tree), "baseline": str(tree), "generated": str(generated)})
    assert [each.returncode for each in done] == [0] * len(done)
    assert runner.outputs["result"] == {"status": "0"}
    assert json.loads((runner.temporary / "fusegen.sarif").read_text())["version"] == "2.1.0"
    assert "### fusegen: transformers 5.99.0 -> 5.99.0" in (runner.temporary / "comment.md").read_text()
    summary = (runner.folder / "summary.md").read_text()
    assert "3 sites in 4 modeling files" in summary
    assert "| unchanged | 3 |" in summary
    assert runner.said_to_gh()[-1] == f"pr comment 7 --repo o/r --body-file {runner.temporary}/marked.md"
    assert (runner.temporary / "marked.md").read_text().startswith("<!-- fusegen -->\n### fusegen: ")


def test_the_comment_of_an_earlier_run_is_written_anew(runner: Runner, tree: Path) -> None:
    (runner.folder / "gh.says").write_text("4711\n4712\n")
    of_action(runner, {"source": str(tree)})
    asked, changed = runner.said_to_gh()
    assert asked.startswith("api --paginate repos/o/r/issues/7/comments --jq .[] | select(.body | startswith(")
    assert changed == f"api --method PATCH repos/o/r/issues/comments/4711 --field body=@{runner.temporary}/marked.md"


def test_the_action_fails_at_its_end_over_a_lost_match(runner: Runner, tree: Path, newer: Path) -> None:
    done = of_action(runner, {"source": str(newer), "baseline": str(tree)})
    assert [each.returncode for each in done] == [*[0] * (len(done) - 1), 1]
    assert any(line.startswith("::error file=") for each in done for line in each.stdout.splitlines())
    assert "FG203" in (runner.temporary / "comment.md").read_text()
    assert runner.outputs["diff"] == {"status": "1"}


def test_the_action_fails_over_a_stale_folder(runner: Runner, tree: Path) -> None:
    (runner.folder / "generated").mkdir()
    done = of_action(runner, {"source": str(tree), "generated": "generated"})
    assert [each.returncode for each in done] == [*[0] * (len(done) - 1), 1]
    assert "**generated is not what fusegen emit would write" in (runner.temporary / "comment.md").read_text()


def test_the_action_fails_where_a_file_of_the_source_cannot_be_read(runner: Runner, tree: Path, newer: Path) -> None:
    (newer / LLAMA).write_text("class (labels, loss")
    done = of_action(runner, {"source": str(newer), "baseline": str(tree)})
    assert [each.returncode for each in done] == [*[0] * (len(done) - 1), 1]
    comment = (runner.temporary / "comment.md").read_text()
    assert "#### Not compared, since a side could not be read (1)" in comment
    assert "`llama.LlamaForCausalLM.forward`" in comment


def test_the_action_says_2_where_the_baseline_cannot_be_read(runner: Runner, tree: Path) -> None:
    done = of_action(runner, {"source": str(tree), "baseline": "nowhere; touch injected"})
    assert [each.returncode for each in done] == [*[0] * (len(done) - 1), 2]
    assert not (runner.folder / "injected").exists()
    assert "there is no source 'nowhere; touch injected'" in (runner.temporary / "marked.md").read_text()
    assert "3 sites in 4 modeling files" in (runner.folder / "summary.md").read_text()
    assert runner.said_to_gh()


@pytest.mark.parametrize("more", [{}, {"baseline": "TREE", "generated": "generated"}])
def test_the_action_says_2_where_the_source_cannot_be_read(runner: Runner, tree: Path, more: dict[str, str]) -> None:
    (runner.folder / "generated").mkdir()
    (runner.temporary / "scan.md").write_text("what an earlier step found")
    done = of_action(runner, {"source": "nowhere"} | {k: str(tree) if v == "TREE" else v for k, v in more.items()})
    assert [each.returncode for each in done] == [*[0] * (len(done) - 1), 2]
    assert runner.outputs["result"] == {"status": "2"}
    comment = (runner.temporary / "marked.md").read_text()
    assert "    Error: there is no source 'nowhere'" in comment
    assert ("generated could not be checked" in comment) == bool(more)
    assert runner.said_to_gh()
    (upload,) = (step for step in ACTION["runs"]["steps"] if "upload-sarif" in step.get("uses", ""))
    assert runner.outputs["scan"] == {"status": "2"}
    assert upload["if"] == "inputs.sarif == 'true' && steps.scan.outputs.status != '2'"


OF_RELEASE = {step.get("name"): step for step in WORKFLOWS["new-release"]["jobs"]["diff"]["steps"]}


class TestNewRelease:
    @pytest.fixture
    def prepared(self, runner: Runner, tree: Path, newer: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
        """A checkout whose generated/ is of 5.99.0, an index that has 5.100.0, and both wheels in the cache."""
        (runner.folder / "generated").mkdir()
        (runner.folder / "generated/manifest.json").write_text('{"source": {"version": "5.99.0"}}')
        runner.program(
            "pip", 'test "$*" = "index versions transformers" && printf "transformers (5.100.0)\\nAvailable\\n"\n'
        )
        (newer / "__init__.py").write_text('__version__ = "5.100.0"\n')
        wheels = runner.folder / "cache" / "wheels"
        wheels.mkdir(parents=True)
        for root, version in ((tree, "5.99.0"), (newer, "5.100.0")):
            with zipfile.ZipFile(wheels / f"transformers-{version}-py3-none-any.whl", "w") as archive:
                for path in root.rglob("*.py"):
                    archive.write(path, path.relative_to(root.parent))
        runner.environment |= {"FUSEGEN_CACHE_DIR": str(runner.folder / "cache")}
        return runner

    def opened(self, runner: Runner) -> subprocess.CompletedProcess[str]:
        found = runner.run(OF_RELEASE["Find the releases"], {})
        assert (found.returncode, runner.outputs["releases"]) == (0, {"old": "5.99.0", "new": "5.100.0"})
        return runner.run(OF_RELEASE["Open an issue with what changed"], {"github.repository": "o/r"})

    def test_an_issue_is_opened_with_the_diff(self, prepared: Runner) -> None:
        assert self.opened(prepared).returncode == 0
        assert "No longer matched (1)" in (prepared.temporary / "changes.md").read_text()
        created = prepared.said_to_gh()[-1]
        assert created.startswith(
            "issue create --repo o/r --title transformers 5.100.0: what changed since 5.99.0 --body"
        )

    def test_it_is_opened_once(self, prepared: Runner) -> None:
        (prepared.folder / "gh.says").write_text("another\ntransformers 5.100.0: what changed since 5.99.0\n")
        assert self.opened(prepared).returncode == 0
        assert not any(line.startswith("issue create") for line in prepared.said_to_gh())


OF_VERSIONS = [step for step in WORKFLOWS["versions"]["jobs"]["verify"]["steps"] if "run" in step]


class TestVersions:
    @pytest.fixture
    def checkout(self, runner: Runner) -> Runner:
        """A repository that documents `| 5.99.0 | 3 |`."""
        (runner.folder / "docs").mkdir()
        (runner.folder / "docs/verified.md").write_text("| 5.99.0 | 3 |\n")
        for command in ("init --quiet", "add docs"):
            subprocess.run(["git", *command.split()], cwd=runner.folder, check=True)
        return runner

    def done(self, runner: Runner, found: str, status: int) -> list[int]:
        """The exit status of each step, where `make verify-versions` writes what it found and ends so."""
        runner.program("make", f'test "$*" = verify-versions && echo "{found}" > docs/verified.md; exit {status}\n')
        done: list[int] = []
        for step in OF_VERSIONS:
            if not any(done) or step.get("if") == "success() || failure()":
                done.append(runner.run(step, {}).returncode)
        return done

    def test_the_counts_are_shown(self, checkout: Runner) -> None:
        assert self.done(checkout, "| 5.99.0 | 3 |", 0) == [0, 0, 0]
        assert (checkout.folder / "summary.md").read_text() == "| 5.99.0 | 3 |\n"

    def test_they_are_shown_where_a_forward_differs_too(self, checkout: Runner) -> None:
        assert self.done(checkout, "| 5.99.0 | 2 | 1 |", 1) == [1, 0]
        assert (checkout.folder / "summary.md").read_text() == "| 5.99.0 | 2 | 1 |\n"

    def test_other_counts_than_the_documented_ones_fail_the_job(self, checkout: Runner) -> None:
        assert self.done(checkout, "| 5.99.0 | 4 |", 0) == [0, 0, 1]


def test_hooks_run_as_pre_commit_runs_them(runner: Runner, tree: Path) -> None:
    by_id = {hook["id"]: hook for hook in HOOKS}
    assert all(hook["language"] == "python" and hook["pass_filenames"] is False for hook in HOOKS)

    def run(id: str) -> int:
        command = [*shlex.split(by_id[id]["entry"]), "--source", str(tree)]
        return subprocess.run(
            command, cwd=runner.folder, env=runner.environment, capture_output=True, check=False
        ).returncode

    assert [run("fusegen-check"), run("fusegen-emit"), run("fusegen-check")] == [1, 0, 0]
