"""One fusegen in a process: one that is imported again, after its modules were dropped, goes on where the first stood.

    for name in [name for name in sys.modules if name.startswith("fusegen")]: del sys.modules[name]
    import fusegen                  # the classes and models that the first had patched are now patched by this one

The two share nothing but a name in `sys`, under which each leaves how it hands over.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from fusegen.runtime.install import install, uninstall
from fusegen.runtime.policy import policy
from fusegen.runtime.process import installer
from fusegen.runtime.scope import scope

logger = logging.getLogger("fusegen")

_PLACE = "_fusegen_hand_over"


def take_over() -> None:
    """Makes this fusegen the one of the process."""
    earlier: Callable[[], dict[str, Any]] | None = getattr(sys, _PLACE, None)
    setattr(sys, _PLACE, hand_over)
    if earlier is None:
        return
    try:
        _resume(**earlier())
    except Exception:
        logger.exception("what was patched by the fusegen that was imported before is not patched any more")


def hand_over() -> dict[str, Any]:
    """What is in force, in values that another fusegen understands; nothing is, afterwards."""
    bodies = installer.bodies
    state = {
        "process": bodies and {"target": bodies.tree.asked, "strict": bodies.strict},
        "fuse": policy.chosen,
        "models": [] if scope.is_empty() else scope.members(),
    }
    uninstall()
    return state


def _resume(process: dict[str, Any] | None, fuse: str | None, models: list[Any]) -> None:
    for model in models:
        install(model)
    if process:
        install(**process)
    if fuse:
        policy.set(fuse)
