"""When to fuse: the choices, and the variable of the environment that holds one."""

from __future__ import annotations

CHOICES = ("training", "always", "never")
ENVIRONMENT = "FUSEGEN_FUSE"


def checked_choice(fuse: str, name: str) -> str:
    """`fuse` itself; raises `ValueError`, naming the setting, if it is no choice."""
    if fuse not in CHOICES:
        raise ValueError(f"{name}: expected one of {', '.join(CHOICES)}, got {fuse!r}")
    return fuse
