"""Tells when a module has been imported, without taking part in how.

The finder lets the other finders find the module and wraps `exec_module` of the loader that they return,
for that one import. The module gets a genuine loader, with its `get_source`, `get_code` and the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from copy import copy
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class ImportWatcher(MetaPathFinder):
    """Calls `imported(module)` right after each of the watched modules has been executed, reloads included."""

    def __init__(self, imported: Callable[[ModuleType], None]) -> None:
        self._imported = imported
        self._watches: Callable[[str], bool] | None = None

    def watch(self, watches: Callable[[str], bool] | None) -> None:
        """Watches the modules whose names `watches` accepts, and no others; None: leaves `sys.meta_path`."""
        self._watches = watches
        if watches and self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        elif not watches and self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        watches = self._watches
        if watches is None or not watches(fullname):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                spec.loader = spec.loader and self._wrapped(spec.loader)
                return spec
        return None

    def _wrapped(self, loader: Loader) -> Loader:
        """A copy, since some loaders (of zip files) serve many modules."""
        loader = copy(loader)

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            loader.exec_module(module)
            self._imported(module)

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return loader
