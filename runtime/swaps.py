"""The methods that fusegen has put on classes, each with the function object that was there before."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Any

from fusegen.runtime.outcomes import Body, Refused, refused
from fusegen.runtime.ownership import dotted_name, foreign_owner
from fusegen.runtime.reasons import CONFLICT, MISSING

logger = logging.getLogger("fusegen")


@dataclass(frozen=True, slots=True)
class Swap:
    """`owner.method` is `original` without fusegen and `body.function` with it."""

    owner: type
    original: Any
    body: Body

    @property
    def name(self) -> str:
        return self.body.name

    @property
    def place(self) -> tuple[type, str]:
        return self.owner, self.body.method


class Swaps:
    """Every swap of the process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: dict[tuple[type, str], Swap] = {}

    def original(self, owner: type, method: str) -> Any:
        """What a class has as `method` where fusegen changed nothing; None if it defines no such method."""
        current = vars(owner).get(method)
        done = self._done.get((owner, method))
        return done.original if done and done.body.function is current else current

    def bodies(self) -> list[Body]:
        """What fusegen has put on classes and still stands there."""
        done = list(self._done.values())
        return [swap.body for swap in done if vars(swap.owner).get(swap.body.method) is swap.body.function]

    def planned(self, owner: Any, body: Body) -> Swap | Refused:
        """The swap that puts `body` on `owner`, or why there is none. Changes nothing."""
        original = self.original(owner, body.method) if isinstance(owner, type) else None
        if original is None:
            return refused(body.name, MISSING)
        if owner.__module__ != body.module:
            return refused(body.name, CONFLICT, f"the class is one of {owner.__module__}")
        foreign = foreign_owner(original, owner)
        return refused(body.name, CONFLICT, foreign) if foreign else Swap(owner, original, body)

    def put(self, swap: Swap) -> None:
        """Make the swap, in the place of an earlier one."""
        with self._lock:
            self._done[swap.place] = swap
            setattr(swap.owner, swap.body.method, swap.body.function)

    def restore(self) -> None:
        """Put every original back. What was patched by others since is left, with a warning."""
        with self._lock:
            for (owner, method), swap in self._done.items():
                current = vars(owner).get(method)
                if current is swap.body.function:
                    setattr(owner, method, swap.original)
                else:
                    logger.warning("%s was patched again since by %s and is left", swap.body.name, dotted_name(current))
            self._done.clear()


swaps = Swaps()
