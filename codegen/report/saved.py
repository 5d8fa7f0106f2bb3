"""A report that `fusegen scan --format json` wrote, read back into records."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fusegen.codegen.records import (
    SCHEMA_VERSION,
    Aside,
    Failure,
    FileReport,
    Head,
    Operation,
    ScanReport,
    Site,
    Use,
    VocabularyLoss,
)

JsonObject = dict[str, Any]


class SavedReportError(ValueError):
    """A file that is no report of a whole tree; says what it is and what to do."""


def looks_saved(path: Path) -> bool:
    """Whether a file may be a saved report: no archive begins as JSON does. False for what cannot be read."""
    if not os.path.isfile(path):
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(64).lstrip()[:1] in (b"{", b"[")
    except OSError:
        return False


def load(path: Path) -> ScanReport:
    """The report in a file. Raises `SavedReportError` if it is none, or holds only a part of its tree."""
    try:
        document = json.loads(path.read_bytes())
        if not isinstance(document, dict):
            raise ValueError("it is no object of JSON")
        version = document["schema_version"]
        if version != SCHEMA_VERSION:
            raise SavedReportError(
                f"{path} has schema version {version}, and this fusegen reads {SCHEMA_VERSION}. Scan the tree again."
            )
        report = _report(document)
    except SavedReportError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise SavedReportError(
            f"{path} is no report of fusegen ({said}). Write one: fusegen scan --format json -o FILE"
        ) from error
    if not report.complete:
        raise SavedReportError(
            f"{path} holds a part of its tree. Write it without --model, --select and --ignore, else what was left out "
            "would count as removed."
        )
    return report


def _report(document: JsonObject) -> ScanReport:
    """The inverse of `json_report.document`, for all that is in it."""
    sites: dict[str, list[Site]] = {}
    for each in document["sites"]:
        sites.setdefault(each["file"], []).append(_site(each))
    asides: dict[str, list[Aside]] = {}
    for group in document["out_of_scope"]:
        for each in group["functions"]:
            asides.setdefault(each["file"], []).append(Aside(each["function"], each["line"], group["why"]))
    failures: dict[str, list[Failure]] = {}
    for each in document["failures"]:
        failure = Failure(each["file"], each["line"], each["message"], each["internal"])
        failures.setdefault(failure.file, []).append(failure)
    classes = {each["path"]: tuple(each["classes"]) for each in document.get("files", ())}
    silent = set(document["files_without_site"])
    paths = classes.keys() | sites.keys() | asides.keys() | failures.keys() | silent
    return ScanReport(
        document["source"]["package"],
        document["source"]["version"],
        tuple(
            FileReport(
                path,
                tuple(sites.get(path, ())),
                tuple(asides.get(path, ())),
                tuple(failures.get(path, ())),
                mentions_labels=path in sites or path in silent,
                classes=classes.get(path, ()),
            )
            for path in sorted(paths)
        ),
        complete=document.get("complete", True),
    )


def _site(data: JsonObject) -> Site:
    return Site(
        id=data["id"],
        model=data["model"],
        file=data["file"],
        class_name=data["class"],
        method=data["method"],
        line=data["line"],
        column=data["column"] - 1,
        verdict=data["verdict"],
        losses=tuple(_loss(loss) for loss in data["losses"]),
        guards=tuple(data["guards"]),
        uses=tuple(Use(use["kind"], use["text"], use["line"]) for use in data["uses"]),
        code=data["code"],
        reason=data["reason"],
        excerpt=data["excerpt"],
        at_line=data["at_line"],
        at_column=None if data["at_column"] is None else data["at_column"] - 1,
        delegated_to=data["delegated_to"],
        def_line=data["definition_line"],
        parameters=tuple(data.get("parameters", ())),
    )


def _loss(data: JsonObject) -> VocabularyLoss:
    return VocabularyLoss(
        kind=data["kind"],
        call=data["call"],
        labels=data["labels"],
        label_source=data["label_source"],
        vocab_size=data["vocab_size"],
        keywords=tuple(data["keywords"].items()),
        head=_head(data["head"]) if data["head"] else None,
        chain=tuple(_operation(step) for step in data["chain"]),
        line=data["line"],
        column=data["column"] - 1,
        label_value=data.get("label_value", ""),
    )


def _head(data: JsonObject) -> Head:
    known = ("expression", "linear", "hidden", "rows", "bias", "line")
    return Head(**{name: data[name] for name in known}, before=tuple(data["before"]))


def _operation(data: JsonObject) -> Operation:
    arguments = tuple((name, value) for name, value in data.items() if name not in ("op", "when", "line"))
    return Operation(data["op"], arguments, data.get("when"), data["line"])
