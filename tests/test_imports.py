"""The import order of the house, as a list: what each folder may import, checked in the text of every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# (folder, the folders of fusegen it may import besides itself, the third-party packages it may import)
ORDER = [
    ("contract", set(), set()),
    ("templates", set(), set()),
    ("codegen", {"contract", "templates"}, {"jinja2", "libcst", "packaging", "platformdirs"}),
    ("cli", {"codegen", "contract", "templates", "verify"}, {"click", "packaging", "rich"}),
    ("kernels", set(), {"torch", "triton"}),
    ("runtime", {"contract", "kernels", "generated"}, {"packaging", "torch", "transformers"}),
    ("startup", set(), set()),
    ("verify", {"codegen", "contract", "runtime"}, {"packaging", "pytest", "torch", "transformers"}),
]

# The one door from the runtime half to the static one: inside a function, so that it opens on first use.
DOOR = ROOT / "runtime" / "in_memory.py"


def files() -> Iterator[tuple[str, Path]]:
    for folder, _, _ in ORDER:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield folder, path


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the import in full, from fusegen..."
            yield node.lineno, node.module or ""
            if node.module == "fusegen":
                yield from ((node.lineno, f"fusegen.{name.name}") for name in node.names)


@pytest.mark.parametrize(
    ("folder", "path"), [pytest.param(*each, id=str(each[1].relative_to(ROOT))) for each in files()]
)
def test_a_file_imports_only_what_its_folder_may(folder: str, path: Path) -> None:
    _, inside, outside = next(each for each in ORDER if each[0] == folder)
    wrong = []
    for line, module in imported(path):
        top, _, rest = module.partition(".")
        if top == "fusegen":
            part = rest.partition(".")[0]
            allowed = part in inside | {folder, "", "__version__"} or (path == DOOR and part == "codegen")
        else:
            allowed = top in outside or top in sys.stdlib_module_names
        if not allowed:
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert wrong == []


def test_the_door_is_closed_until_something_is_generated() -> None:
    pytest.importorskip("torch", reason="needs torch (the extra `runtime`)")
    code = "import sys, fusegen.runtime; assert 'fusegen.codegen' not in sys.modules and 'libcst' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_package_has_a_place_in_the_order() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"generated"} <= {folder for folder, _, _ in ORDER}
