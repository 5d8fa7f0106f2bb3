"""Stands between an emission and the folder that it is for: what nobody asked to be dropped is not dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusegen.cli.terminal import Refused
from fusegen.codegen.dropped import Dropped, dropped
from fusegen.codegen.emit import Emission
from fusegen.codegen.report.wording import plural
from fusegen.codegen.writer import Changes, compare, read_manifest, write


class Guard:
    """Brings a folder to the state of an emission, unless that would drop what nobody asked to be dropped."""

    def __init__(self, emission: Emission, out: Path, force: bool) -> None:
        self._emission = emission
        self._out = out
        self._force = force
        self._dropped = Dropped()

    def written(self) -> Changes:
        """Writes the folder. Raises `Refused`, with the folder as it was."""
        return write(self._out, self._emission.files, self._assert_allowed)

    def compared(self) -> Changes:
        """What would change. Raises `Refused` where the sources of what is there could not be read."""
        self._look(read_manifest(self._out))
        if self._dropped.unread and not self._force:
            raise self._refusal()
        return compare(self._out, self._emission.files)

    def summary(self, *, written: bool) -> Iterator[str]:
        """What is or would be dropped, if anything is, and whether that would be done."""
        if self._dropped:
            yield f"{'dropped' if written else 'would be dropped'}: {self._dropped}"
        if self._dropped.why and not (written or self._force):
            yield f"not without --force: {'; '.join(self._dropped.why)}"

    def _assert_allowed(self, earlier: dict[str, Any] | None) -> None:
        self._look(earlier)
        if self._dropped.why and not self._force:
            raise self._refusal()

    def _look(self, earlier: dict[str, Any] | None) -> None:
        self._dropped = dropped(earlier, self._emission)

    def _refusal(self) -> Refused:
        found = self._dropped
        return Refused(
            f"{self._out} has {plural(found.held, 'forward')}, and {'; '.join(found.why)}. This would drop {found}. "
            "Nothing is written: choose another --out, or give --force to replace it."
        )
