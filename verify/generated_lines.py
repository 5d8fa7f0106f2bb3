"""The lines of a generated forward that are not the original's: from `if fusible(` to its `else`."""

from __future__ import annotations

from pathlib import Path

from fusegen.verify.targets import Target, module_path


def generated_lines(generated: Path, target: Target) -> str:
    """The fused branches of a class, with line numbers; empty where the class is not in the tree."""
    if target.module is None:
        return ""
    path = module_path(generated, target)
    found: list[str] = []
    inside = open_branch = False
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line.startswith("class "):
            inside = line.startswith(f"class {target.class_name}(")
        if inside and line.lstrip().startswith("if fusible("):
            open_branch = True
        if open_branch:
            found.append(f"{path.name}:{number}: {line}")
        if line.strip() == "else:":
            open_branch = False
    return "\n".join(found)
