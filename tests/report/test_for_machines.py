from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fusegen.codegen.reasons import REASONS
from fusegen.codegen.records import ScanReport
from fusegen.codegen.report import Presentation, renderer

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "json-schema.json").read_text(encoding="utf-8"))

# Reduced by hand from the OASIS schema to what fusegen writes: a check of the structure, not of everything.
SARIF_SCHEMA = json.loads(Path(__file__).with_name("sarif-2.1.0-reduced.json").read_text(encoding="utf-8"))


def parsed(name: str, report: ScanReport, presentation: Presentation) -> Any:
    return json.loads(renderer(name)(report, presentation))


@pytest.mark.parametrize("name", ["report", "broken", "empty"])
def test_json_keeps_its_schema(name: str, plain: Presentation, request: pytest.FixtureRequest) -> None:
    document = parsed("json", request.getfixturevalue(name), plain)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)


def test_json_holds_what_was_promised(report: ScanReport, plain: Presentation) -> None:
    document = parsed("json", report, plain)
    assert document["schema_version"] == 1
    assert document["tool"] == {"name": "fusegen", "version": "0.1.0"}
    assert document["source"] == {"package": "transformers", "version": "5.23.0"}
    assert document["summary"] == {"files": 8, "sites": 5, "matched": 3, "rejected": 1, "delegated": 1}
    sites = {site["model"]: site for site in document["sites"]}
    promised = ("id", "file", "class", "method", "line", "verdict", "head", "labels", "code", "reason")
    assert {key: sites["cohere"][key] for key in promised} == {
        "id": "cohere.CohereForCausalLM.forward",
        "file": "models/cohere/modeling_cohere.py",
        "class": "CohereForCausalLM",
        "method": "forward",
        "line": 480,
        "verdict": "match",
        "head": "self.lm_head",
        "labels": "shifted",
        "code": None,
        "reason": None,
    }
    assert sites["cohere"]["chain"] == [
        {"op": "scale", "multiply": "self.logit_scale", "line": 478},
        {"op": "soft_cap", "cap": "self.cap", "when": "self.cap is not None", "line": 479},
    ]
    assert sites["cohere"]["column"] == 13
    assert [loss["labels"] for loss in sites["csm"]["losses"]] == ["shifted", "aligned"]
    assert sites["cohere"]["losses"][0]["keywords"] == {"**": "kwargs"}
    assert (sites["chameleon"]["line"], sites["chameleon"]["at_line"]) == (1071, 1067)
    assert sites["llava"]["delegated_to"] == "self.language_model"


def test_json_lists_what_is_out_of_scope(report: ScanReport, plain: Presentation) -> None:
    document = parsed("json", report, plain)
    assert document["out_of_scope"] == [
        {
            "why": "the loss runs over classes",
            "functions": [
                {"file": "models/vit/modeling_vit.py", "function": "ViTForImageClassification.forward", "line": 70}
            ],
        }
    ]
    assert document["files_without_site"] == ["models/vit/modeling_vit.py", "models/whale/modeling_whale.py"]


def test_json_lines_are_the_sites_of_json(report: ScanReport, plain: Presentation) -> None:
    lines = renderer("json-lines")(report, plain).splitlines()
    assert [json.loads(line) for line in lines] == parsed("json", report, plain)["sites"]


@pytest.mark.parametrize("prefix", ["", "src/transformers/"])
@pytest.mark.parametrize("name", ["report", "broken", "empty"])
def test_sarif_keeps_the_shape_of_the_standard(name: str, prefix: str, request: pytest.FixtureRequest) -> None:
    document = parsed("sarif", request.getfixturevalue(name), Presentation("0.1.0", prefix=prefix))
    jsonschema.Draft202012Validator(SARIF_SCHEMA).validate(document)
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert {rule["id"] for rule in rules} >= set(REASONS)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


def test_sarif_points_at_the_refused_spot(report: ScanReport, plain: Presentation) -> None:
    (result,) = parsed("sarif", report, plain)["runs"][0]["results"]
    assert result["ruleId"] == "FG203"
    assert result["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "models/chameleon/modeling_chameleon.py", "uriBaseId": "TRANSFORMERS"},
        "region": {
            "startLine": 1067,
            "startColumn": 9,
            "snippet": {"text": "logits[:, :, image_tokens] = lowest"},
        },
    }


def test_sarif_reports_an_internal_error_as_a_failed_run(broken: ScanReport, plain: Presentation) -> None:
    (invocation,) = parsed("sarif", broken, plain)["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False
    assert len(invocation["toolExecutionNotifications"]) == 2
