"""fusegen: finds the language-model heads and losses of a transformers tree and fuses what can be fused.

Importing this package imports nothing heavy. The functions of the runtime half are loaded on first use
and need the `runtime` extra (torch and transformers):

    import fusegen
    fusegen.install()
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusegen.kernels import linear_cross_entropy
    from fusegen.runtime import audit, coverage, fused, install, register_canonical, structural_hash, uninstall

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "audit",
    "coverage",
    "fused",
    "install",
    "linear_cross_entropy",
    "register_canonical",
    "structural_hash",
    "uninstall",
]

_LAZY = {
    "audit": "fusegen.runtime",
    "coverage": "fusegen.runtime",
    "fused": "fusegen.runtime",
    "install": "fusegen.runtime",
    "linear_cross_entropy": "fusegen.kernels",
    "register_canonical": "fusegen.runtime",
    "structural_hash": "fusegen.runtime",
    "uninstall": "fusegen.runtime",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        needs = f"fusegen.{name} needs torch, which is not installed: pip install 'fusegen[runtime]'"
        raise ModuleNotFoundError(needs, name="torch") from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
