"""Two generated trees side by side: text for people and `patch`, JSON, and a comment with folded diffs."""

from __future__ import annotations

import json
from collections.abc import Callable

from fusegen.codegen.generated import CHANGE_KINDS, ForwardChange, GeneratedDiff
from fusegen.codegen.records import SCHEMA_VERSION
from fusegen.codegen.report.diff.markdown import MAX_CHARACTERS
from fusegen.codegen.report.markdown import code_cell
from fusegen.codegen.visible import json_text, visible, visible_lines


def render_text(found: GeneratedDiff) -> str:
    """The unified diffs one after another, a line for each forward that only one side has, then the counts."""
    parts = [change.diff or f"{change.kind}: {visible(f'{change.file} {change.id}')}\n" for change in found.changes]
    return "".join([*parts, f"{_counts(found)}\n"])


def render_json(found: GeneratedDiff) -> str:
    document = {
        "schema_version": SCHEMA_VERSION,
        "unchanged": found.unchanged,
        "changes": [
            {"kind": change.kind, "id": change.id, "file": change.file, "diff": change.diff} for change in found.changes
        ],
    }
    return json_text(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"


def render_markdown(found: GeneratedDiff) -> str:
    lines = ["### fusegen: generated forwards", "", _counts(found), ""]
    for change in found.changes:
        folded = _folded(change)
        if sum(map(len, (*lines, *folded))) > MAX_CHARACTERS:
            lines.append("*The rest is too long for a comment.*")
            break
        lines += folded
    return "\n".join(lines) + "\n"


def _folded(change: ForwardChange) -> list[str]:
    if not change.diff:
        return [f"- {change.kind}: {code_cell(visible(change.id))}"]
    summary = f"<details><summary><code>{visible(change.id)}</code></summary>"
    return ["", summary, "", "````diff", visible_lines(change.diff).rstrip("\n"), "````", "", "</details>"]


def _counts(found: GeneratedDiff) -> str:
    counts = {kind: sum(change.kind == kind for change in found.changes) for kind in CHANGE_KINDS}
    return ", ".join(f"{number} {kind}" for kind, number in (*counts.items(), ("unchanged", found.unchanged)))


RENDERERS: dict[str, Callable[[GeneratedDiff], str]] = {
    "text": render_text,
    "json": render_json,
    "markdown": render_markdown,
}
