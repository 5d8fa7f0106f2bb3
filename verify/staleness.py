"""What of a generated tree was written from another source than the installed one: nothing here is its original."""

from __future__ import annotations

from pathlib import Path

from fusegen.runtime.manifest import PatchedMethod, installed_hashes, installed_version, read_tree
from fusegen.verify.targets import TargetError


def stale_modules(generated: Path) -> dict[str, str]:
    """The source modules whose installed text is not the one that the manifest names, each with what to do.

    The hash decides: a file that did not change from one release to another can be compared in both.

    Raises:
        TargetError: the tree is of a schema or for a kernel interface that this fusegen does not have.
    """
    try:
        tree = read_tree(generated)
    except ValueError as error:
        raise TargetError(str(error)) from error
    hashes, installed = installed_hashes(tree), installed_version(tree.source)
    again, anew = (f"run 'fusegen emit {force}--out {generated}'" for force in ("", "--force "))

    def reason(method: PatchedMethod) -> str:
        if tree.version != installed:
            where = f", or install {tree.source} {tree.version}" if tree.version else ""
            return f"written from {tree.version or 'an unknown version'}, {installed} is installed: {anew}{where}"
        if hashes[method.file] is None:
            return f"{method.file} is not installed: {again}"
        return f"written from another text of {method.file} than the installed one: {again}"

    stale = (method for method in tree.methods if hashes[method.file] != method.sha256)
    return {method.source_module: reason(method) for method in stale}
