"""What is emitted for every matched case, held as files: tests/cases/linear_cross_entropy/<name>.py is before,
tests/cases/linear_cross_entropy_after/<name>.py is after.

`FUSEGEN_REWRITE_CASES=1 pytest tests/codegen/test_cases_after.py` writes the second folder anew; read its diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.pipeline import read_index
from fusegen.codegen.plan import PlanRefusal, plan
from fusegen.codegen.render import fused_function
from fusegen.codegen.splice import unsplice

BEFORE = Path(__file__).parents[1] / "cases" / "linear_cross_entropy"
AFTER = BEFORE.with_name("linear_cross_entropy_after")
MATCHED = sorted(path for path in BEFORE.glob("*.py") if path.read_bytes().startswith(b"# verdict: match"))


def emitted(path: Path) -> str:
    """The patched functions of a case, or the reason why there is none; one paragraph a site."""
    _, matches, _ = read_index("models/bird/modeling_bird.py", path.read_bytes().decode(), DEFAULT_MAPPING)
    parts = []
    for site, analysis in matches:
        outcome = plan(site, analysis)
        if isinstance(outcome, PlanRefusal):
            parts.append(f"# {site.class_name}: not emitted, {outcome.code} at {outcome.line}: {outcome.detail}\n")
            continue
        function = fused_function(outcome, analysis.block)
        assert unsplice(function + "\n") == analysis.block.text.rstrip() + "\n"
        parts.append(f"class {site.class_name}:\n{function}\n")
    return "\n\n".join(parts)


@pytest.mark.parametrize("path", MATCHED, ids=lambda path: path.stem)
def test_after(path: Path) -> None:
    after = AFTER / path.name
    text = emitted(path)
    compile(text, path.name, "exec")
    if os.environ.get("FUSEGEN_REWRITE_CASES"):
        AFTER.mkdir(exist_ok=True)
        after.write_text(text, encoding="utf-8")
    assert text == after.read_text(encoding="utf-8")


def test_every_after_has_a_before() -> None:
    assert {path.name for path in AFTER.glob("*.py")} == {path.name for path in MATCHED}
