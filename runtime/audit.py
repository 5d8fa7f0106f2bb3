"""What fusegen does in this process, as plain data: what is patched and from where, what is not and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch

from fusegen.kernels.backends import backend_for
from fusegen.runtime import in_memory
from fusegen.runtime.calls import FUSED, coverage, found
from fusegen.runtime.instances import instances
from fusegen.runtime.outcomes import Refused
from fusegen.runtime.policy import policy
from fusegen.runtime.process import installer, loaded_models
from fusegen.runtime.reasons import FAILURES, REASONS
from fusegen.runtime.stock_losses import unknown_losses
from fusegen.runtime.swaps import swaps

SCHEMA_VERSION = 1


def audit() -> dict[str, Any]:
    """The record of this process; JSON-safe, and only ever extended.

    Returns:
        `schema_version`; `policy`: when to fuse; `backend`: what computes the loss on which device; `tree`: the
        generated tree in force, or None; `patched`: methods with their `tier` (`canonical`, `given`, `shipped`,
        `in-memory`), whether `verified`, and on how many `instances` (None: on the class); `pending`: methods
        whose modules are not imported; `refused`: left alone by `install`, or taken over by
        somebody else since, with code and reason, and stock losses that are not known, which are not fused;
        `failed`: the same, where fusegen or the file is at fault; `unmatched`: losses of imported modules that
        have no fused body, with the code of `fusegen rule`; `calls`: per class, how often its loss was `fused`,
        and `unfused` by code, with what was `found` there (a few of each).
    """
    report = installer.report()
    refusals = (*report.refused, *swaps.lost(), *unknown_losses())
    refused = {(each.name, each.reason): each for each in refusals}.values()
    return {
        "schema_version": SCHEMA_VERSION,
        "policy": policy.fuse,
        "backend": _backend(),
        "tree": _tree(),
        "patched": [*_classes(), *_instances()],
        "pending": list(report.pending),
        "refused": [asdict(each) for each in refused if each.code not in FAILURES],
        "failed": [asdict(each) for each in refused if each.code in FAILURES],
        "unmatched": [asdict(each) for each in _unmatched()],
        "calls": _calls(),
    }


def _backend() -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {"device": device.type, "device_name": name, "name": backend_for(device, torch.float32).name}


def _tree() -> dict[str, Any] | None:
    bodies = installer.bodies
    if bodies is None:
        return None
    methods = bodies.methods
    return {
        "package": bodies.tree.package,
        "tier": bodies.tree.tier,
        "generated_from": bodies.tree.version,
        "installed": bodies.version,
        "strict": bodies.strict,
        "methods": len(methods),
        "current": sum(bodies.is_current(method) for method in methods),
        "verified": sum(bodies.is_verified(method) for method in methods),
    }


def _classes() -> list[dict[str, Any]]:
    return [
        {"name": body.name, "tier": body.tier, "verified": body.verified, "instances": None} for body in swaps.bodies()
    ]


def _instances() -> list[dict[str, Any]]:
    return [
        {"name": body.name, "tier": body.tier, "verified": body.verified, "instances": count}
        for body, count in sorted(instances.counts().items(), key=lambda each: each[0].name)
    ]


def _unmatched() -> Iterable[Refused]:
    patched = {body.name for body in swaps.bodies()}
    for module in loaded_models("transformers"):
        for each in in_memory.generated(module).unmatched:
            if each.name not in patched:
                yield each


def _calls() -> dict[str, dict[str, Any]]:
    named = found()
    return {
        name: {
            "fused": counts.get(FUSED, 0),
            "unfused": [
                {"code": code, "reason": REASONS[code], "count": count, "found": named[name][code]}
                for code, count in counts.items()
                if code != FUSED
            ],
        }
        for name, counts in coverage().items()
    }
