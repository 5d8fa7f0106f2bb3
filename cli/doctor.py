"""`fusegen doctor`: what `fusegen.install()` does here, found out in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

SCHEMA_VERSION = 1

# Others that put forwards of their own on the same classes.
PATCHERS = ("liger-kernel", "cut-cross-entropy", "unsloth", "trl")
PACKAGES = ("fusegen", "torch", "triton", "transformers", "accelerate", "peft", *PATCHERS)

_PROGRAM = """
import json, sys
from fusegen.codegen.processes import end_with_parent
end_with_parent(int(sys.argv[1]))
try:
    import fusegen
    fusegen.install()
    found = {"audit": fusegen.audit(), "problem": None}
except Exception as error:
    found = {"audit": None, "problem": f"{type(error).__name__}: {error}"}
print(json.dumps(found))
"""


@click.command("doctor")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(("full", "json")),
    default="full",
    show_default=True,
    help="json holds the versions and what fusegen.audit() gives.",
)
@click.pass_context
def command(context: click.Context, format_name: str) -> None:
    """Say what fusegen.install() would do here, with the versions of everything that has a part in it.

    Exit status: 0 all forwards can be installed, 1 some are refused or fail, 2 nothing can be installed.
    """
    from fusegen.cli.terminal import write_result

    found = {"schema_version": SCHEMA_VERSION, "versions": _versions(), **_looked_for()}
    if format_name == "json":
        write_result(json.dumps(found, indent=2) + "\n", None)
    else:
        write_result("".join(f"{line}\n" for line in _full(found)), None)
    context.exit(_status(found))


def _versions() -> dict[str, str | None]:
    """None is a package that fusegen knows and that is not installed."""
    return {"python": sys.version.split()[0], **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _looked_for() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(os.getpid())], capture_output=True, text=True, check=False
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return {"audit": None, "problem": last[0]}
    return found


def _status(found: dict[str, Any]) -> int:
    if found["problem"]:
        return 2
    return 1 if found["audit"]["refused"] or found["audit"]["failed"] else 0


def _full(found: dict[str, Any]) -> Iterator[str]:
    for name, installed in found["versions"].items():
        if installed or name not in PATCHERS:
            yield f"{name:18} {installed or 'not installed'}"
    if found["problem"]:
        yield ""
        yield f"Nothing can be installed. {found['problem']}"
        return
    audit = found["audit"]
    backend, tree = audit["backend"], audit["tree"]
    yield f"{'device':18} {backend['device_name'] or backend['device']}"
    yield f"{'kernels':18} {backend['name']}"
    yield f"{'fuse':18} {audit['policy']}"
    yield ""
    yield from _forwards(audit, tree)
    others = [name for name in PATCHERS if found["versions"][name]]
    if others:
        yield f"Also installed: {', '.join(others)}. What one of them has patched first is left alone, and named."


def _forwards(audit: dict[str, Any], tree: dict[str, Any]) -> Iterator[str]:
    known = len(audit["patched"]) + len(audit["pending"])
    yield f"fusegen.install() patches the {known} forwards that it knows of here when their models are imported."
    yield f"{tree['verified']} of them are verified for transformers {tree['installed']}."
    if tree["generated_from"] != tree["installed"]:
        yield (
            f"They were generated from transformers {tree['generated_from']}; {tree['current']} fit here as they are. "
            "For all other models, forwards are generated in memory when they are imported."
        )
    for code, count in sorted(Counter(each["code"] for each in (*audit["refused"], *audit["failed"])).items()):
        reason = next(each["reason"] for each in (*audit["refused"], *audit["failed"]) if each["code"] == code)
        yield f"{count:4} {code} {reason}"
