"""The losses behind `model.loss_function`, known by how they are written.

The hashes of a manifest are of modeling files, and these functions stand in another one: a release, or a fork, may
change what they compute and leave every model as it is. Then the fused loss would still be the old one.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from importlib.util import find_spec
from types import CodeType, FunctionType
from typing import Any

import torch

from fusegen.runtime.manifest import installed_folder
from fusegen.runtime.outcomes import Refused, refused
from fusegen.runtime.ownership import is_as_written
from fusegen.runtime.reasons import LOSS_BODY
from fusegen.runtime.syntax import parsed, shape

MODULE = "transformers.loss.loss_utils"
# Both losses call it.
INNER = "fixed_cross_entropy"

# What the losses of `fusegen.runtime.losses` compute, as the sha256 of their shape. The eight releases that were read,
# from 4.56.2 to 5.24.0, have one text of each, but for annotations.
KNOWN = {
    INNER: {"bd1da34bb8b0ff7e7f2db29776990f0ec5559510e5f913a5eec480de7ddb39f1"},
    "ForCausalLMLoss": {"6f623b08eedab1f59df43b2fa3a41f4969a4866606f0b2c7cc60ab9b41f399d5"},
    "ForMaskedLMLoss": {"24d754fb576c9a3c4566198ddb92262ef08cb9a2ed92998d9fdcedea9e2be95c"},
}
_ANNOTATIONS = ("annotation", "returns")
_vetted: dict[FunctionType, tuple[CodeType, bool]] = {}


def is_known(name: str, function: Any) -> bool:
    """Whether a function of `MODULE` runs a text that is known by that name. Read once; False if there is none."""
    if not isinstance(function, FunctionType) or function.__code__.co_qualname != name:
        return False
    code, known = _vetted.get(function, (None, False))
    if code is not function.__code__:
        definition = _known_definition(name, _loaded_text())
        known = (
            definition is not None
            and function.__defaults__ == tuple(map(ast.literal_eval, definition.args.defaults))
            and function.__globals__.get("nn") is torch.nn
            and is_as_written(function, MODULE)
        )
        _vetted[function] = function.__code__, known
    return known


def unknown_losses() -> list[Refused]:
    """The stock losses of the installed transformers that are not fused; none without it. It need not be imported."""
    if find_spec("transformers") is None:
        return []
    module = sys.modules.get(MODULE)
    if module is not None:
        unknown = [name for name in KNOWN if not is_known(name, getattr(module, name, None))]
    else:
        text = installed_source()
        unknown = [name for name in KNOWN if _known_definition(name, text) is None]
    return [refused(f"{MODULE}.{name}", LOSS_BODY) for name in unknown]


def installed_source() -> bytes | None:
    """The file of `MODULE`, None where there is none. Raises `ModuleNotFoundError` without transformers."""
    file = installed_folder("transformers") / "loss" / "loss_utils.py"
    return file.read_bytes() if file.is_file() else None


def _loaded_text() -> str | None:
    get_source = getattr(getattr(sys.modules[MODULE], "__loader__", None), "get_source", None)
    try:
        return get_source(MODULE) if get_source else None
    except (ImportError, OSError, SyntaxError, UnicodeDecodeError):
        return None


def _known_definition(name: str, text: str | bytes | None) -> ast.FunctionDef | None:
    """A function as a text defines it, if that is once and as it is known."""
    try:
        tree = parsed(text or "")
    except (SyntaxError, ValueError):
        return None
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    return found[0] if len(found) == 1 and _sha256(found[0]) in KNOWN.get(name, ()) else None


def _sha256(node: ast.FunctionDef) -> str:
    return hashlib.sha256(shape(node, without=_ANNOTATIONS).encode()).hexdigest()
