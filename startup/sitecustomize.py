"""Installs fusegen in a program that cannot be edited, right before it imports its first model.

`fusegen run` puts this folder on PYTHONPATH, so that every Python below it runs this file when it starts.
It imports nothing that the program does not: a process without transformers gets no torch from here. Without
FUSEGEN=1 nothing is installed. A sitecustomize that this one hides is run as if it were found first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from types import ModuleType

_HERE = os.path.dirname(os.path.abspath(__file__))


class FirstModel:
    """A finder that finds nothing itself and installs fusegen when a model of transformers is looked for."""

    def __init__(self) -> None:
        self._waits = True

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None, but for the first model: its spec from the other finders, of which fusegen's is one by then."""
        if not (self._waits and _is_model(fullname)):
            return None
        self._waits = False
        _install()
        specs = (finder.find_spec(fullname, path, target) for finder in list(sys.meta_path) if finder is not self)
        return next((spec for spec in specs if spec is not None), None)


def _is_model(name: str) -> bool:
    return name == "transformers.modeling_utils" or (
        name.startswith("transformers.models.") and name.rpartition(".")[2].startswith("modeling_")
    )


def _install() -> None:
    """A program that cannot be patched runs as it is, and says so."""
    try:
        import fusegen

        fusegen.install()
    except Exception as error:
        print(f"fusegen: nothing is installed in process {os.getpid()}: {error}", file=sys.stderr)


def _run_hidden() -> None:
    spec = PathFinder.find_spec("sitecustomize", [entry for entry in sys.path if os.path.abspath(entry) != _HERE])
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if __name__ == "sitecustomize":
    if os.environ.get("FUSEGEN") == "1":
        sys.meta_path.insert(0, FirstModel())
    _run_hidden()
