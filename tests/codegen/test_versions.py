"""The diff of two scans: every kind of change, found in texts as transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.pipeline import read_file
from fusegen.codegen.records import Failure, FileReport, ScanReport
from fusegen.codegen.report import Presentation, renderer
from fusegen.codegen.report.saved import SavedReportError, load
from fusegen.codegen.versions import KINDS, Change, Comparison, diff

BIRD = """\
import torch
from torch import nn


class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = BirdModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids: torch.Tensor = None, labels=None, use_cache=None, **kwargs):
        hidden_states = self.model(input_ids).last_hidden_state
        logits = self.lm_head(hidden_states[:, -5:, :])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutput(loss=loss, logits=logits)
"""
EDITED = BIRD.replace("loss = None\n", "logits[:, :, 7] = 0\n        loss = None\n", 1)
CAPPED = BIRD.replace(
    "loss = None\n",
    "logits = torch.tanh(logits / self.config.cap) * self.config.cap\n        loss = None\n",
    1,
)
GUARDED = CAPPED.replace("logits = torch", "if self.config.cap is not None:\n            logits = torch")
TUPLE = BIRD.replace(
    "return CausalLMOutput(loss=loss, logits=logits)",
    "return tuple(each for each in (loss, logits) if each is not None)",
)
NO_LOSS = "".join(line for line in BIRD.splitlines(keepends=True) if "loss_function" not in line).replace(
    "if labels is not None:", "if labels is not None:\n            loss = 0.0"
)
BROKEN = "class ("
DELEGATED = """\
class BirdForCausalLM(BirdPreTrainedModel):
    def __init__(self, config):
        self.language_model = AutoModelForCausalLM.from_config(config)

    def forward(self, input_ids=None, labels=None, use_cache=None, **kwargs):
        return self.language_model(input_ids, labels=labels)
"""


PATH = "models/bird/modeling_bird.py"


def scan(text: str | None, *, version: str = "5.0.0", unread: str = "") -> ScanReport:
    """A tree of one model `bird` (None: without it) and one that never changes, of which `unread` cannot be read."""
    files = [read_file("models/ant/modeling_ant.py", BIRD.replace("Bird", "Ant"), DEFAULT_MAPPING)]
    if text == BROKEN:
        unread = PATH
    elif text is not None:
        files.append(read_file(PATH, text, DEFAULT_MAPPING))
    if unread:
        files.append(FileReport(unread, failures=(Failure(unread, 3, "not Python: x"),)))
    return ScanReport("transformers", version, tuple(files))


def compared(old: str | None, new: str | None) -> Comparison:
    return diff(scan(old), scan(new, version="5.1.0"))


def only(comparison: Comparison) -> Change:
    (change,) = comparison.changes
    return change


def rebound(statement: str) -> str:
    """Bird with a statement more where the labels are known to be given."""
    return BIRD.replace("is not None:\n", f"is not None:\n            {statement}\n")


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (None, BIRD, "added"),
        (BIRD, None, "removed"),
        (BIRD, EDITED, "lost-match"),
        (BIRD, DELEGATED, "lost-match"),
        (BIRD, NO_LOSS, "lost-match"),
        (EDITED, BIRD, "newly-matched"),
        (DELEGATED, BIRD, "newly-matched"),
        (NO_LOSS, BIRD, "newly-matched"),
        (BIRD, CAPPED, "changed-chain"),
        (BIRD, BROKEN, "not-compared"),
        (EDITED, DELEGATED, "changed-reason"),
        (EDITED, NO_LOSS, "changed-reason"),
        (NO_LOSS, EDITED, "changed-reason"),
        (BIRD, BIRD.replace("use_cache=None, ", ""), "changed-signature"),
    ],
)
def test_each_kind_of_change(old: str | None, new: str | None, kind: str) -> None:
    comparison = compared(old, new)
    assert (only(comparison).kind, only(comparison).id) == (kind, "bird.BirdForCausalLM.forward")
    assert comparison.unchanged == 1


def test_every_kind_is_tried_above() -> None:
    kinds = {mark.args[1][number][2] for mark in test_each_kind_of_change.pytestmark for number in range(14)}  # type: ignore[attr-defined]
    assert kinds == set(KINDS)


@pytest.mark.parametrize(
    "new",
    [
        BIRD,
        "# a comment\n\n" + BIRD,
        BIRD.replace("input_ids: torch.Tensor = None", "input_ids: torch.LongTensor | None = None"),
        BIRD.replace("hidden_states[:, -5:, :]", "slice_logits_to_keep(hidden_states, 5)"),
        BIRD.replace("logits=logits, labels=labels", "logits, labels"),
        rebound("targets = labels").replace("labels=labels", "labels=targets"),
        BIRD.replace("**kwargs", "**lm_kwargs"),
        rebound("labels = labels.to(logits.device).contiguous()"),
    ],
    ids=["same", "lines", "annotation", "slice", "keywords", "name", "name of keywords", "moved"],
)
def test_what_computes_the_same_is_unchanged(new: str) -> None:
    comparison = compared(BIRD, new)
    assert comparison.changes == ()
    assert comparison.unchanged == 2


def test_a_lost_match_names_code_and_source() -> None:
    change = only(compared(BIRD, EDITED))
    assert change.new is not None
    assert (change.new.code, change.new.excerpt) == ("FG203", "logits[:, :, 7] = 0")
    text = renderer_text(compared(BIRD, EDITED))
    assert "FG203" in text
    assert "| logits[:, :, 7] = 0" in text
    assert "modeling_bird.py:14:9  bird.BirdForCausalLM.forward" in text


def test_a_class_that_lost_its_loss_is_not_called_removed() -> None:
    change = only(compared(BIRD, NO_LOSS))
    assert change.new is None
    assert "the class is still there: labels are mentioned, and no loss is computed" in (change.why or "")


@pytest.mark.parametrize(
    ("new", "edits"),
    [
        (CAPPED, [("operation", None, "soft_cap(cap=self.config.cap)", 14)]),
        (BIRD.replace("bias=False", "bias=True"), [("head bias", "no", "yes", 13)]),
        (BIRD.replace("lm_head", "embed_out"), [("head", "self.lm_head", "self.embed_out", 13)]),
        (
            BIRD.replace(", **kwargs)\n        return", ", ignore_index=0)\n        return"),
            [
                (
                    "loss",
                    "causal(shifted) by self.loss_function(labels, vocab_size=self.config.vocab_size, **kwargs)",
                    "causal(shifted) by self.loss_function(labels, vocab_size=self.config.vocab_size, ignore_index=0)",
                    16,
                )
            ],
        ),
    ],
    ids=["soft cap", "bias", "head", "loss"],
)
def test_a_changed_chain_says_what_changed(new: str, edits: list[tuple[object, ...]]) -> None:
    found = only(compared(BIRD, new)).edits
    assert [(edit.part, edit.old, edit.new, edit.line) for edit in found] == edits


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("labels = labels.clamp(min=0)", "labels.clamp(min=0)"),
        ("labels.clamp_(min=0)", "<labels.clamp_(min=0)>(labels, labels.clamp_(min=0))"),
        ("labels[labels == 0] = -100", "labels with [labels == 0] = -100"),
        ("labels = labels if self.training else -labels", "labels if self.training else (-labels)"),
        ("labels = labels[:, kwargs['start'] :]", "labels[:, kwargs['start']:]"),
    ],
)
def test_labels_are_compared_by_their_value(statement: str, value: str) -> None:
    change = only(compared(BIRD, rebound(statement)))
    assert change.kind == "changed-chain"
    assert [(edit.part, edit.old, edit.new) for edit in change.edits] == [("labels", "labels", value)]
    assert compared(rebound(statement), rebound(statement).replace("kwargs", "lm_kwargs")).changes == ()


def test_of_what_goes_into_the_inner_model_the_labels_alone_count() -> None:
    old = rebound("labels = outputs.labels").replace(
        "hidden_states = self.model(input_ids).last_hidden_state",
        "outputs = self.model(input_ids, labels=labels)\n        hidden_states = outputs.last_hidden_state",
    )
    assert compared(old, old.replace("(input_ids, ", "(input_ids, cache=self.cache, ")).changes == ()
    (edit,) = only(compared(old, old.replace("labels=labels)\n", "labels=labels.abs())\n", 1))).edits
    assert (edit.old, edit.new) == ("self.model(labels=labels).labels", "self.model(labels=labels.abs()).labels")


def test_labels_of_a_long_value_are_compared_to_its_end() -> None:
    long = " + ".join(f"labels.roll({number})" for number in range(20))
    (edit,) = only(compared(rebound(f"labels = {long}"), rebound(f"labels = {long} + 1"))).edits
    assert edit.part == "labels"
    assert max(len(edit.old or ""), len(edit.new or "")) < 200


def test_labels_of_a_report_of_an_older_fusegen_are_compared_by_their_source(tmp_path: Path) -> None:
    document = json.loads(renderer("json")(scan(BIRD), Presentation("0.1.0")))
    for site in document["sites"]:
        for loss in site["losses"]:
            del loss["label_value"]
    (tmp_path / "old.json").write_text(json.dumps(document))
    assert diff(load(tmp_path / "old.json"), scan(rebound("labels = labels.abs()"))).changes == ()
    (change,) = diff(load(tmp_path / "old.json"), scan(rebound("labels = helper(labels)"))).changes
    assert [(edit.part, edit.new) for edit in change.edits] == [("labels", "helper(labels)")]


@pytest.mark.parametrize(
    ("old", "new", "edits"),
    [
        (
            BIRD,
            BIRD.replace(
                "loss = None\n",
                "if self.config.mask:\n            logits = torch.relu(logits)\n        loss = None\n",
                1,
            ),
            [("guard", None, "not (self.config.mask)")],
        ),
        (
            GUARDED,
            GUARDED.replace(" * self.config.cap", " * 30.0"),
            [
                ("operation", "soft_cap(cap=self.config.cap) if self.config.cap is not None", None),
                ("guard", None, "self.config.cap is None"),
            ],
        ),
        (TUPLE, BIRD, [("guard", "the output is no tuple that leaves out what is None (line 17)", None)]),
    ],
)
def test_conditions_of_the_fused_path_are_compared(old: str, new: str, edits: list[tuple[object, ...]]) -> None:
    change = only(compared(old, new))
    assert change.kind == "changed-chain"
    assert [(edit.part, edit.old, edit.new) for edit in change.edits] == edits


def test_a_condition_that_moved_to_another_line_is_the_same() -> None:
    assert compared(TUPLE, "\n\n" + TUPLE).changes == ()


def test_a_gone_operation_has_the_line_of_the_old_side() -> None:
    (edit,) = only(compared(CAPPED, "\n\n" + BIRD)).edits
    assert (edit.old, edit.new, edit.line) == ("soft_cap(cap=self.config.cap)", None, 14)


@pytest.mark.parametrize(
    ("signature", "edits"),
    [
        ("self, input_ids=None, labels=None, **kwargs", [("parameter", "use_cache=None", None)]),
        (
            "self, input_ids=None, labels=None, use_cache=True, **kwargs",
            [("parameter", "use_cache=None", "use_cache=True")],
        ),
        (
            "self, labels=None, input_ids=None, use_cache=None, **kwargs",
            [
                (
                    "parameter order",
                    "self, input_ids, labels, use_cache, **kwargs",
                    "self, labels, input_ids, use_cache, **kwargs",
                )
            ],
        ),
        (
            "self, input_ids=None, labels=None, *, use_cache=None, n: int = 1, **kwargs",
            [("parameter", None, "*"), ("parameter", None, "n=1")],
        ),
        (
            "self, input_ids=None, /, labels=None, use_cache=None, *args, **kwargs",
            [("parameter", None, "/"), ("parameter", None, "*args")],
        ),
    ],
)
def test_a_changed_signature_says_what_changed(signature: str, edits: list[tuple[object, ...]]) -> None:
    old = "self, input_ids: torch.Tensor = None, labels=None, use_cache=None, **kwargs"
    change = only(compared(BIRD, BIRD.replace(old, signature)))
    assert [(edit.part, edit.old, edit.new) for edit in change.edits] == edits


def test_chain_and_signature_are_two_changes_of_one_site() -> None:
    comparison = compared(BIRD, CAPPED.replace("use_cache=None, ", ""))
    assert [change.kind for change in comparison.changes] == ["changed-chain", "changed-signature"]
    assert comparison.unchanged == 1


def test_models_come_and_go() -> None:
    assert compared(None, BIRD).models_added == ("bird",)
    assert compared(BIRD, None).models_removed == ("bird",)
    assert (compared(BIRD, NO_LOSS).models_added, compared(BIRD, NO_LOSS).models_removed) == ((), ())


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("unread", "why"),
    [
        (PATH, f"{PATH} could not be read in the {{}} tree"),
        ("models/bird", "not all of models/bird/ could be read in the {} tree"),
        ("models", "not all of models/ could be read in the {} tree"),
    ],
)
def test_what_cannot_be_read_is_neither_added_nor_removed(turned: bool, unread: str, why: str) -> None:
    sides = [scan(BIRD), scan(None, unread=unread)]
    comparison = diff(*(reversed(sides) if turned else sides))
    change = only(comparison)
    assert (change.kind, change.id) == ("not-compared", "bird.BirdForCausalLM.forward")
    assert change.why == why.format("old" if turned else "new")
    assert (comparison.models_added, comparison.models_removed) == ((), ())
    assert change.why in renderer_text(comparison)


def test_what_was_read_is_compared_though_other_files_are_missing() -> None:
    comparison = diff(scan(BIRD), scan(NO_LOSS, unread="models"))
    assert [change.kind for change in comparison.changes] == ["lost-match"]


def test_a_link_that_cannot_be_followed_is_no_model() -> None:
    comparison = diff(scan(BIRD), scan(BIRD, unread="models/loop"))
    assert (comparison.models_added, comparison.changes) == ((), ())


def test_a_saved_report_says_the_same_as_the_scan(tmp_path: Path) -> None:
    for number, text in enumerate((BIRD, EDITED, CAPPED, DELEGATED, NO_LOSS)):
        report = scan(text)
        file = tmp_path / f"{number}.json"
        file.write_text(renderer("json")(report, Presentation("0.1.0")), encoding="utf-8")
        assert load(file) == ScanReport("transformers", "5.0.0", tuple(sorted(report.files, key=lambda f: f.path)))
        assert diff(load(file), report).changes == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "no report of fusegen .it has no 'schema_version'"),
        ("{", "no report of fusegen"),
        ("[1]", "no report of fusegen .it is no object of JSON"),
        ('{"schema_version": 2}', "schema version 2, and this fusegen reads 1"),
        ('{"schema_version": 1, "sites": [1]}', "no report of fusegen"),
    ],
)
def test_what_is_no_saved_report_says_so(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(content)
    with pytest.raises(SavedReportError, match=message):
        load(file)


def test_a_report_of_a_part_of_a_tree_is_refused(tmp_path: Path) -> None:
    document = json.loads(renderer("json")(scan(BIRD), Presentation("0.1.0")))
    document["complete"] = False
    (tmp_path / "part.json").write_text(json.dumps(document))
    with pytest.raises(SavedReportError, match="holds a part of its tree"):
        load(tmp_path / "part.json")


def renderer_text(comparison: Comparison) -> str:
    from fusegen.codegen.report.diff.text import render

    return render(comparison, Presentation("0.1.0"))
