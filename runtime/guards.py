"""What source cannot prove, asked at each call: may this forward take its fused path here and now?

    if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
        ...the fused loss...
    else:
        ...the original statements...

A refusal is counted, and logged once per class and reason under `fusegen`.

`torch.compile` traces these checks and guards on what they read: if the policy, the loss function, the
head's class, its hooks or the model's mode changes, it compiles anew. Hence the spelling of some of them:
dynamo guards on the length of a dictionary, not on its truth or on `in`, and reads no hooks by attribute.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules import module as nn_module

from fusegen.kernels.operator import AUTOCAST_KEYS
from fusegen.runtime import reasons, stock_losses
from fusegen.runtime.policy import policy
from fusegen.runtime.projection import Projection
from fusegen.runtime.swaps import swaps

logger = logging.getLogger("fusegen")

FUSED = "fused"
_PLAIN_TENSORS = (nn.Parameter, torch.Tensor)
_PLAIN_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_DEVICES = tuple(AUTOCAST_KEYS)
_LINEAR_FORWARD = nn.Linear.forward
_CRITERION = nn.modules.loss.CrossEntropyLoss
_CRITERION_SETTINGS = {"weight": None, "ignore_index": -100, "reduction": "mean", "label_smoothing": 0.0}
_calls: dict[type, Counter[str]] = {}


def fusible(
    module: nn.Module,
    head: Any,
    labels: Any,
    loss: str | None = None,
    *,
    through: dict[str, type[nn.Module]] | None = None,
    where: Callable[[], bool] | None = None,
) -> bool:
    """Whether the generated forward of `module` may fuse `head` with its loss in this call.

    Args:
        module: the model whose forward runs.
        head: what the original calls to get the logits; a path below `module` ("cls.predictions.decoder") where
            that is the last linear of a composite head.
        labels: what the original asks for before it computes a loss; None refuses without a count.
        loss: the stock loss that `module.loss_function` must be (`ForCausalLMLoss`, `ForMaskedLMLoss`);
            None where the forward computes its cross-entropy itself.
        through: modules that the original calls and the fused loss passes over: their paths below `module`, and
            the classes whose source was read.
        where: a further condition under which alone the fused loss is equal; asked if nothing else refuses.
    """
    if labels is None:
        return False
    refusal = (
        policy.refusal(module.training)
        or _passed_over_refusal(module, through or {})
        or _head_refusal(module, head, through or {})
        or _loss_refusal(module, loss)
        or _cross_entropy_refusal(module, loss)
        or _transform_refusal()
        or (None if where is None or where() else reasons.CONDITION)
    )
    _count(type(module), refusal or FUSED)
    return refusal is None


# Of use for what it does, not for what it returns: dynamo calls it while it traces, and puts None into the graph.
@torch.compiler.assume_constant_result
def _count(cls: type, outcome: str) -> None:
    cls = swaps.patched_class(cls)
    counter = _calls.setdefault(cls, Counter())
    counter[outcome] += 1
    if outcome != FUSED and counter[outcome] == 1:
        level = logging.INFO if outcome == reasons.POLICY else logging.WARNING
        logger.log(level, "%s runs unfused: %s %s", cls.__name__, outcome, reasons.REASONS[outcome])


def coverage() -> dict[str, dict[str, int]]:
    """How often each class was called with labels, by outcome: `{"...LlamaForCausalLM": {"fused": 12, "FG511": 3}}`.

    A class is that whose method fusegen has patched, as `audit` names it; subclasses that inherit it count there.
    Under `torch.compile` the tracing of a call counts, once or twice, and the calls of what was compiled do not.
    """
    counts: dict[str, Counter[str]] = {}
    for cls, counter in list(_calls.items()):
        # A module that was reloaded has another class of the same name.
        counts.setdefault(f"{cls.__module__}.{cls.__qualname__}", Counter()).update(counter)
    return {name: dict(counter) for name, counter in counts.items()}


def reset_coverage() -> None:
    """Forget all counts; each refusal is logged anew."""
    _calls.clear()


def head_refusal(head: Any) -> str | None:
    """The code of what keeps `head(hidden)` from being `hidden @ weight.T + bias` and nothing else, or None.

    A parametrised head has a class of its own; ZeRO and FSDP keep a shard of another shape in `weight`.
    """
    if type(head) is not nn.Linear:
        return reasons.HEAD_TYPE
    if _hooks(head) or head.forward != _LINEAR_FORWARD.__get__(head) or not _is_linear_of_torch():
        return reasons.HEAD_HOOKS
    return _weight_refusal(head)


def _is_linear_of_torch() -> bool:
    return _is_of("torch.nn.modules.linear", _LINEAR_FORWARD) and nn.functional.linear is torch._C._nn.linear


def _head_refusal(module: nn.Module, head: Any, through: dict[str, type[nn.Module]]) -> str | None:
    """`head_refusal` for what a generated forward names: a linear, a weight, or the path of an inner module."""
    if isinstance(head, Projection):
        return _weight_refusal(head)
    if isinstance(head, str):
        inner = _below(module, head)
        # The class that was read computes the product itself, from its own weight and bias.
        return _weight_refusal(inner) if head in through else head_refusal(inner)
    return head_refusal(head)


def _weight_refusal(head: Any) -> str | None:
    """The code of what keeps weight and bias from being plain tensors on a device that the kernel knows, or None."""
    weight, bias = head.weight, head.bias
    if not _is_plain(weight, 2) or not (bias is None or _is_plain(bias, 1)):
        return reasons.HEAD_WEIGHT
    return None if weight.device.type in _DEVICES else reasons.DEVICE


def _passed_over_refusal(module: nn.Module, through: dict[str, type[nn.Module]]) -> str | None:
    """The code of what keeps a module from doing what its class's source says and nothing else, or None."""
    for path, cls in through.items():
        passed = _below(module, path)
        if type(passed) is not cls or _hooks(passed) or passed.forward != cls.forward.__get__(passed):
            return reasons.PASSED_OVER
        if cls.forward.__module__ != cls.__module__:
            return reasons.PASSED_OVER
        if cls is _CRITERION and any(getattr(passed, name) != value for name, value in _CRITERION_SETTINGS.items()):
            return reasons.PASSED_OVER
    return None


def _below(module: nn.Module, path: str) -> Any:
    """What stands at a path below a module, None if there is nothing."""
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def _hooks(module: nn.Module) -> int:
    """How many hooks calling a module would run: its own, and those that are registered for all modules."""
    own = module.__dict__
    hooks = (
        own["_forward_pre_hooks"],
        own["_forward_hooks"],
        own["_backward_pre_hooks"],
        own["_backward_hooks"],
        nn_module._global_forward_pre_hooks,
        nn_module._global_forward_hooks,
        nn_module._global_backward_pre_hooks,
        nn_module._global_backward_hooks,
    )
    return sum(map(len, hooks))


def _is_plain(tensor: Any, dimensions: int) -> bool:
    return (
        type(tensor) in _PLAIN_TENSORS
        and tensor.dim() == dimensions
        and tensor.dtype in _PLAIN_DTYPES
        and not tensor.is_meta
    )


def _loss_refusal(module: nn.Module, name: str | None) -> str | None:
    """Whether the model's loss is the one of that name as transformers defines it, with nothing wrapped or replaced."""
    if name is None:
        return None
    stock = sys.modules.get(stock_losses.MODULE)
    function, inner = getattr(stock, name, None), getattr(stock, stock_losses.INNER, None)
    if module.loss_function is not function or not all(_is_of(stock_losses.MODULE, part) for part in (function, inner)):
        return reasons.LOSS_FUNCTION
    are_known = _is_known(name, function) and _is_known(stock_losses.INNER, inner)
    return None if are_known else reasons.LOSS_BODY


# Dynamo guards on which function it is, and need not trace how it is read.
_is_known = torch.compiler.assume_constant_result(stock_losses.is_known)


def _cross_entropy_refusal(module: nn.Module, loss: str | None) -> str | None:
    """Whether what the original calls in the end is torch's own: some put a loss of theirs in its place, by name."""
    is_own = _is_of("torch.nn.functional", nn.functional.cross_entropy)
    if is_own and loss is None:
        is_own = nn.CrossEntropyLoss is _CRITERION and _is_of("torch.nn.modules.loss", _CRITERION.forward)
        # Modeling files import the class by name.
        is_own = is_own and all(
            getattr(sys.modules.get(cls.__module__), "CrossEntropyLoss", _CRITERION) is _CRITERION
            for cls in type(module).__mro__
        )
    return None if is_own else reasons.CROSS_ENTROPY


def _is_of(module_name: str, function: Any) -> bool:
    """Whether a function is one that a module defines, with nothing wrapped around it."""
    return getattr(function, "__module__", None) == module_name and not hasattr(function, "__wrapped__")


def _transform_refusal() -> str | None:
    """Whether something other than plain backpropagation goes through this call."""
    transformed = torch._C._functorch.get_dynamic_layer_stack_depth() > 0 or forward_ad._current_level >= 0
    return reasons.TRANSFORM if transformed else None
