"""The decorators of transformers that turn an output into a tuple, under which a tuple keeps its logits.

    @can_return_tuple                      # transformers': output.to_tuple() drops the fields that are None
    def forward(self, ..., **kwargs):

A fused forward has no logits, and what follows them in the tuple would move up by one. So where a tuple is
asked for, by `return_dict=False` or by the config, the original statements run (FG516). A generated forward that
runs in the place of an original is under transformers' own with `whole_tuples` around it; generated modules import
what stands here, which is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from types import FunctionType
from typing import Any

from fusegen.runtime.policy import policy

_DECORATORS = ("can_return_tuple", "capture_outputs", "check_model_inputs")


def can_return_tuple(function: Callable[..., Any]) -> Callable[..., Any]:
    """`transformers.utils.generic.can_return_tuple`, with whole tuples."""
    return whole_tuples(_stock("generic", "can_return_tuple")(function))


def capture_outputs(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    """`transformers.utils.output_capturing.capture_outputs`, with whole tuples."""
    return _with_options(_stock("output_capturing", "capture_outputs"), function, options)


def check_model_inputs(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
    """`transformers.utils.generic.check_model_inputs`, an earlier `capture_outputs`, with whole tuples."""
    return _with_options(_stock("generic", "check_model_inputs"), function, options)


def _stock(module: str, name: str) -> Any:
    return getattr(import_module(f"transformers.utils.{module}"), name)


def _with_options(stock: Any, function: Callable[..., Any] | None, options: dict[str, Any]) -> Callable[..., Any]:
    """As `@stock` and as `@stock(...)`."""
    if function is not None:
        return whole_tuples(stock(function))
    return lambda decorated: whole_tuples(stock(**options)(decorated))


def makes_tuples(wrapper: FunctionType) -> bool:
    """Whether a function is what one of these decorators of transformers has put around another one."""
    is_of_transformers = str(wrapper.__globals__.get("__name__")).startswith("transformers.utils.")
    return is_of_transformers and wrapper.__code__.co_qualname.partition(".")[0] in _DECORATORS


def whole_tuples(decorated: Callable[..., Any]) -> Callable[..., Any]:
    """`decorated`, in which nothing is fused where a tuple is asked for."""

    @wraps(decorated)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _asks_for_a_tuple(self, kwargs.get("return_dict")):
            return decorated(self, *args, **kwargs)
        with policy.whole_tuples():
            return decorated(self, *args, **kwargs)

    return wrapper


def _asks_for_a_tuple(model: Any, return_dict: bool | None) -> bool:
    config = getattr(model, "config", None)
    if return_dict is None:
        return_dict = getattr(config, "return_dict", True)
    return not return_dict or getattr(config, "torchscript", False)
