"""The whole installed transformers, through the command line as users run it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import Result

from fusegen.codegen.reasons import REASONS
from fusegen.codegen.selection import known_operations

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs transformers"),
]


@pytest.fixture
def report(fusegen: Callable[..., Result]) -> dict[str, Any]:
    result = fusegen("scan", "--format", "json", "--quiet")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    warm = fusegen("scan", "--format", "json", "--quiet")
    assert json.loads(warm.stdout) == document
    assert isinstance(document, dict)
    return document


def test_the_report_keeps_its_promises(report: dict[str, Any]) -> None:
    schema = json.loads((Path(__file__).parents[2] / "docs" / "json-schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(report)
    sites = report["sites"]
    assert report["failures"] == []
    assert len({(site["id"], site["line"], site["column"]) for site in sites}) == len(sites)
    assert [(site["file"], site["line"]) for site in sites] == sorted((site["file"], site["line"]) for site in sites)
    assert {step["op"] for site in sites for step in site["chain"]} <= set(known_operations())
    assert {site["code"] for site in sites} - {None} <= set(REASONS)
    by_id = {site["id"]: site for site in sites}
    assert by_id["llama.LlamaForCausalLM.forward"]["verdict"] == "match"
