"""The methods that fusegen has put on classes, each with the function object that was there before."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Any

from fusegen.runtime.outcomes import Body, Refused, refused
from fusegen.runtime.ownership import dotted_name, foreign_owner, is_as_written
from fusegen.runtime.reasons import CONFLICT, DRIFT, MISSING

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
    def current(self) -> Any:
        """What stands in the place now."""
        return vars(self.owner).get(self.body.method)

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
        swap = self._in_force(owner, method)
        return swap.original if swap else vars(owner).get(method)

    def bodies(self) -> list[Body]:
        """What fusegen has put on classes and still stands there."""
        return [swap.body for swap in self._standing()]

    def owners(self) -> set[type]:
        """The classes on which something of fusegen stands."""
        return {swap.owner for swap in self._standing()}

    def lost(self) -> list[Refused]:
        """What somebody else has replaced since."""
        swaps = list(self._done.values())
        replaced = [swap for swap in swaps if swap.current not in (swap.body.function, swap.original)]
        return [refused(swap.name, CONFLICT, dotted_name(swap.current)) for swap in replaced]

    def planned(self, owner: Any, body: Body) -> Swap | Refused:
        """The swap that puts `body` on `owner`, or why there is none. Changes nothing."""
        if not isinstance(owner, type) or body.method not in vars(owner):
            return refused(body.name, MISSING)
        if vetted := self._in_force(owner, body.method):
            return Swap(owner, vetted.original, body)
        if owner.__module__ != body.module:
            return refused(body.name, CONFLICT, f"the class is one of {owner.__module__}")
        original = vars(owner)[body.method]
        foreign = foreign_owner(original, owner)
        if foreign:
            return refused(body.name, CONFLICT, foreign)
        if not is_as_written(original, owner.__module__):
            return refused(body.name, DRIFT, "it was changed since it was imported")
        return Swap(owner, original, body)

    def _standing(self) -> list[Swap]:
        return [swap for swap in list(self._done.values()) if swap.current is swap.body.function]

    def _in_force(self, owner: type, method: str) -> Swap | None:
        swap = self._done.get((owner, method))
        return swap if swap and swap.current is swap.body.function else None

    def put(self, swap: Swap) -> None:
        """Make the swap, in the place of an earlier one."""
        with self._lock:
            self._done[swap.place] = swap
            setattr(swap.owner, swap.body.method, swap.body.function)

    def restore(self) -> None:
        """Put every original back. What was patched by others since is left, with a warning, until they are gone."""
        with self._lock:
            for place, swap in list(self._done.items()):
                if swap.current is swap.body.function:
                    setattr(swap.owner, swap.body.method, swap.original)
                elif swap.current is not swap.original:
                    by = dotted_name(swap.current)
                    logger.warning("%s was patched again since by %s and is left", swap.name, by)
                    continue
                del self._done[place]


swaps = Swaps()
