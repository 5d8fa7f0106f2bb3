"""The methods that fusegen has put on classes, each with the function object that was there before.

A method has up to two fused bodies: one for every instance, and one for those that are marked (`scope.py`). What
stands on the class is made of both, and of the original:

    install()            the body
    install(model)       the body for what is marked, the original for everybody else
    both                 the one body for what is marked, the other one for everybody else
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from fusegen.runtime.outcomes import CANONICAL, Body, Refused, refused
from fusegen.runtime.ownership import described, foreign_owner, is_as_written, leads_to
from fusegen.runtime.reasons import CONFLICT, DRIFT, EARLIER, MISSING, STAND_IN
from fusegen.runtime.scope import Choice, living_modules
from fusegen.runtime.stand_in import CannotStandIn, in_place_of

logger = logging.getLogger("fusegen")


@dataclass(frozen=True, slots=True)
class Swap:
    """`owner.method` is `original` without fusegen and `function`, which is made of `body`, with it."""

    owner: type
    original: Any
    body: Body
    function: Any

    @property
    def name(self) -> str:
        return self.body.name


@dataclass(slots=True)
class _Place:
    """A method of a class: what was there, what runs for everyone and for marked instances, and what we have put."""

    owner: type
    method: str
    original: Any
    choice: Choice
    everyone: Swap | None = None
    marked: Swap | None = None
    put: Any = None
    made: dict[Body, Swap] = field(default_factory=dict)

    @property
    def current(self) -> Any:
        """What stands on the class now."""
        return vars(self.owner).get(self.method)

    @property
    def stands(self) -> bool:
        """Whether something of ours is there."""
        return self.put is not None and self.current is self.put

    @property
    def swaps(self) -> list[Swap]:
        return [swap for swap in (self.everyone, self.marked) if swap]

    @property
    def name(self) -> str:
        return self.swaps[0].name

    @property
    def ours(self) -> list[Any]:
        """What leads to a fused body where it is called."""
        functions = [swap.function for swap in self.swaps]
        return [self.choice.method, *functions, *map(inspect.unwrap, functions)]

    def compose(self) -> None:
        """Put on the class what shall run there."""
        others = self.everyone.function if self.everyone else self.original
        function = self.choice.choose(self.marked.function if self.marked else others, others)
        if self.current is not function:
            setattr(self.owner, self.method, function)
            _forget_graphs()
        self.put = function if self.swaps else None


class Swaps:
    """Every swap of the process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[tuple[type, str], _Place] = {}
        self._owners: set[type] = set()

    def original(self, owner: type, method: str) -> Any:
        """What a class has as `method` where fusegen changed nothing; None if it defines no such method."""
        place = self._places.get((owner, method))
        return place.original if place and place.stands else vars(owner).get(method)

    def bodies(self) -> list[Body]:
        """What fusegen has put on classes, for all of their instances, and still stands there."""
        return [place.everyone.body for place in self._standing() if place.everyone]

    def of_marked(self) -> list[Swap]:
        """What runs for marked instances."""
        return [place.marked for place in self._standing() if place.marked]

    def owners(self) -> set[type]:
        """The classes of which all instances are patched."""
        return {place.owner for place in self._standing() if place.everyone}

    def patched_class(self, cls: type) -> type:
        """The nearest class whose method fusegen has patched, of a class and its bases; without one, `cls`."""
        return next((each for each in cls.__mro__ if each in self._owners), cls)

    def lost(self) -> list[Refused]:
        """What somebody else has replaced since."""
        places = [place for place in list(self._places.values()) if place.swaps]
        replaced = [place for place in places if place.current not in (place.put, place.original)]
        return [refused(place.name, CONFLICT, described(place.current)) for place in replaced]

    def hidden(self) -> list[Refused]:
        """Instances of patched classes with a method of their own that does not lead to ours: ours never runs there."""
        found: dict[tuple[str, str, str], int] = {}
        places = [place for place in self._standing() if place.everyone]
        for module in living_modules() if places else ():
            for place in places:
                held = vars(module).get(place.method)
                if held is not None and isinstance(module, place.owner):
                    for code, detail in self.conflict(place.owner, place.method, held):
                        found[place.name, code, detail] = found.get((place.name, code, detail), 0) + 1
        return [
            refused(name, code, f"{detail}, on {count} instance{'s' if count > 1 else ''}")
            for (name, code, detail), count in found.items()
        ]

    def conflict(self, owner: type, method: str, held: Any) -> Iterable[tuple[str, str]]:
        """The code, and whose it is, where what an instance holds as its method does not lead to the class's."""
        place = self._places.get((owner, method))
        if place is None or not leads_to(held, place.ours):
            leads = leads_to(held, [self.original(owner, method)])
            yield EARLIER if leads else CONFLICT, described(held)

    def planned(self, owner: Any, body: Body) -> Swap | Refused:
        """The swap that puts `body` on `owner`, or why there is none. Changes nothing."""
        if not isinstance(owner, type) or body.method not in vars(owner):
            return refused(body.name, MISSING)
        place = self._places.get((owner, body.method))
        if place and place.stands:
            return place.made.get(body) or _made(owner, place.original, body)
        if owner.__module__ != body.module:
            return refused(body.name, CONFLICT, f"the class is one of {owner.__module__}")
        original = vars(owner)[body.method]
        foreign = foreign_owner(original, owner)
        if foreign:
            return refused(body.name, CONFLICT, foreign)
        if not is_as_written(original, owner.__module__):
            return refused(body.name, DRIFT, "it was changed since it was imported")
        if place and place.original is original and body in place.made:
            return place.made[body]
        return _made(owner, original, body)

    def put(self, swap: Swap, marked: bool = False) -> None:
        """Make the swap, for every instance or for those that are marked, in the place of an earlier one."""
        with self._lock:
            key = swap.owner, swap.body.method
            place = self._places.get(key)
            if place is None or place.original is not swap.original:
                place = self._places[key] = _Place(*key, swap.original, Choice(swap.original))
            place.made[swap.body] = swap
            self._owners.add(swap.owner)
            if marked:
                place.marked = swap
            else:
                place.everyone = swap
            place.compose()

    def restore(self, marked: bool = False) -> None:
        """Put every original back. What was patched by others since is left, with a warning, until they are gone."""
        with self._lock:
            for place in self._places.values():
                if (place.marked if marked else place.everyone) is None:
                    continue
                if place.stands or place.current is place.original:
                    if marked:
                        place.marked = None
                    else:
                        place.everyone = None
                    place.compose()
                else:
                    logger.warning("%s was patched again since by %s and is left", place.name, described(place.current))

    def _standing(self) -> Iterator[_Place]:
        return (place for place in list(self._places.values()) if place.stands)


def _forget_graphs() -> None:
    """Lets what is compiled be compiled anew: dynamo asks of a model which class it has, not what its methods are."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset_code_caches()


def _made(owner: type, original: Any, body: Body) -> Swap | Refused:
    if body.tier == CANONICAL:
        return Swap(owner, original, body, body.function)
    if not isinstance(original, FunctionType):
        return refused(body.name, CONFLICT, described(original))
    try:
        return Swap(owner, original, body, in_place_of(original, owner, body.function))
    except CannotStandIn as reason:
        return refused(body.name, STAND_IN, str(reason))


swaps = Swaps()
