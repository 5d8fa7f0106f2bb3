"""manifest.json of a generated tree: which classes are in it, from which sources, under which rules.

`fusegen.runtime.install` reads it, and the writer tells fusegen's own files from a person's by it. What it promises
is in docs/manifest.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fusegen.codegen.layouts import PATCH, generated_path
from fusegen.codegen.pipeline import RULES_VERSION
from fusegen.codegen.reasons import REASONS
from fusegen.codegen.records import Operation, ScanReport, Site, VocabularyLoss
from fusegen.codegen.visible import json_text

if TYPE_CHECKING:
    from fusegen.codegen.emit import FileOutcome, NotEmitted

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1

# What generated code may call, as of this number: `fusegen.kernels.INTERFACE_VERSION`, which codegen cannot import.
KERNEL_INTERFACE = 1

JsonObject = dict[str, Any]


def manifest_text(
    report: ScanReport,
    version: str,
    layout: str,
    asked: dict[str, list[str]],
    classes: list[JsonObject],
    not_emitted: Iterable[NotEmitted],
    files: dict[str, str],
) -> str:
    """The manifest for `files`, which holds every other file of the tree by its path.

    `asked` says which sites the tree was narrowed to, if it was.
    """
    data = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "fusegen", "version": version, "rules": RULES_VERSION, "kernel_interface": KERNEL_INTERFACE},
        "layout": layout,
        "source": {"package": report.package, "version": report.version},
        **({"selection": asked} if asked else {}),
        "classes": classes,
        "not_emitted": [not_emitted_entry(each) for each in not_emitted],
        "files": digests(files),
    }
    return as_text(data)


def class_entries(
    outcomes: Iterable[FileOutcome], layout: str, files: dict[str, str], earlier: JsonObject | None = None
) -> list[JsonObject]:
    """What the manifest says of each class that is emitted; `files` holds the generated texts by their paths.

    An entry keeps the `verified` field that it has in `earlier` (the manifest that is replaced) if neither the
    original nor the generated text changed since.
    """
    hashes = digests(files)
    known = verified_entries(earlier) if earlier else {}
    classes = [_entry(site, outcome, layout) for outcome in outcomes for site in outcome.sites]
    for entry in classes:
        verified = known.get(_identity(entry, hashes))
        if verified is not None:
            entry["verified"] = verified
    return classes


def as_text(manifest: JsonObject) -> str:
    """A manifest as it stands in the file."""
    return json_text(json.dumps(manifest, indent=1, ensure_ascii=False)) + "\n"


def digests(files: dict[str, str]) -> dict[str, str]:
    """The sha256 of each text, by path."""
    return {path: hashlib.sha256(text.encode()).hexdigest() for path, text in sorted(files.items())}


def not_emitted_entry(each: NotEmitted) -> JsonObject:
    """A match that is not emitted, as the manifest and the report spell it."""
    reason = f"{REASONS[each.code].summary}: {each.detail}"
    return {"site": each.site, "code": each.code, "reason": reason, "line": each.line}


def _entry(site: Site, outcome: FileOutcome, layout: str) -> JsonObject:
    place = generated_path(layout, outcome.path)
    where = {"patch": place} if layout == PATCH else {"module": place.removesuffix(".py").replace("/", ".")}
    names = {"model": site.model, "class": site.class_name, "method": site.method}
    original = {"file": site.file, "sha256": outcome.sha256}
    loss = site.primary
    further = {"losses": [_loss(each) for each in site.losses]} if len(site.losses) > 1 else {}
    return names | original | where | (_loss(loss) if loss else {}) | {"guards": list(site.guards)} | further


def _loss(loss: VocabularyLoss) -> JsonObject:
    head = loss.head.linear if loss.head else None
    return {"head": head, "chain": [_step(step) for step in loss.chain], "labels": loss.labels}


def _step(step: Operation) -> JsonObject:
    return {"op": step.op, **dict(step.arguments), **({"when": step.when} if step.when else {})}


def verified_entries(manifest: JsonObject) -> dict[tuple[Any, ...], JsonObject]:
    """The `verified` fields of a manifest, by what they were found for. Raises as any look into a wrong shape does."""
    hashes = manifest["files"]
    return {_identity(entry, hashes): entry["verified"] for entry in manifest["classes"] if "verified" in entry}


def _identity(entry: JsonObject, hashes: dict[str, str]) -> tuple[Any, ...]:
    """The original and the generated text of an entry: what a verification is about."""
    place = entry["patch"] if "patch" in entry else entry["module"].replace(".", "/") + ".py"
    return entry["file"], entry["class"], entry["method"], entry["sha256"], hashes.get(place)
