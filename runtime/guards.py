"""What source cannot prove, asked at each call: may this forward take its fused path here and now?

    if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):
        ...the fused loss...
    else:
        ...the original statements...

A refusal is counted, and logged under `fusegen` with what was found (`calls.py`).

`torch.compile` traces these checks and guards on what they read: if the policy, the loss function, the
head's class, its hooks or the model's mode changes, it compiles anew. Hence the spelling of some of them:
dynamo guards on the length of a dictionary, not on its truth or on `in`, and reads no hooks by attribute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules import module as nn_module

from fusegen.kernels.operator import AUTOCAST_KEYS
from fusegen.runtime import calls, modes, reasons, stock_losses
from fusegen.runtime.findings import Finding, described
from fusegen.runtime.operands import is_integral, is_plain
from fusegen.runtime.policy import policy
from fusegen.runtime.projection import Projection

_DEVICES = tuple(AUTOCAST_KEYS)
_LINEAR_FORWARD = nn.Linear.forward
_CRITERION = nn.modules.loss.CrossEntropyLoss
_CRITERION_SETTINGS = {"weight": None, "ignore_index": -100, "reduction": "mean", "label_smoothing": 0.0}


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
        labels: what the original asks for before it computes a loss; None refuses, and counts in training alone.
        loss: the stock loss that `module.loss_function` must be (`ForCausalLMLoss`, `ForMaskedLMLoss`);
            None where the forward computes its cross-entropy itself.
        through: modules that the original calls and the fused loss passes over: their paths below `module`, and
            the classes whose source was read.
        where: a further condition under which alone the fused loss is equal; asked if nothing else refuses.
    """
    if labels is None:
        # A rollout or an evaluation that left the model in training records no gradients.
        if module.training and torch.is_grad_enabled():
            calls.count(type(module), reasons.NO_LABELS)
        return False
    finding = (
        _policy_finding(module)
        or _mode_finding()
        or _labels_finding(labels)
        or _passed_over_finding(module, through or {})
        or _head_finding(module, head, through or {})
        or _loss_finding(module, loss)
        or _cross_entropy_finding(module, loss)
        or _transform_finding()
        or (None if where is None or _holds(where) else Finding(reasons.CONDITION, "condition", where))
    )
    if finding is None:
        calls.expect(type(module))
        return True
    calls.count(type(module), finding.code, "" if torch.compiler.is_compiling() else described(finding))
    return False


def _holds(condition: Callable[[], bool]) -> bool:
    """Whether a condition holds. One that cannot be asked does not: the original may never ask it, or raises itself."""
    try:
        return condition()
    except Exception:
        return False


def _policy_finding(module: nn.Module) -> Finding | None:
    code = policy.refusal(module.training)
    if code is None:
        return None
    return Finding(code, "" if code == reasons.TUPLE else f"fuse={policy.fuse!r}")


def _mode_finding() -> Finding | None:
    cls = modes.foreign_function_mode() or modes.foreign_dispatch_mode()
    return None if cls is None else Finding(reasons.MODE, "mode", cls)


def _labels_finding(labels: Any) -> Finding | None:
    """Labels of another kind; which integral dtype the loss will see, only the loss can say."""
    if not isinstance(labels, torch.Tensor) or is_integral(labels):
        return None
    return Finding(reasons.LABELS, "labels", labels)


def _linear_finding(head: Any, name: str) -> Finding | None:
    """What keeps `head(hidden)` from being `hidden @ weight.T + bias` and nothing else, or None.

    A parametrised head has a class of its own; ZeRO and FSDP keep a shard of another shape in `weight`.
    """
    if type(head) is not nn.Linear:
        return Finding(reasons.HEAD_TYPE, name, type(head))
    hook = _hook(head)
    if hook is not None:
        return Finding(reasons.HEAD_HOOKS, f"hook of {name}", hook)
    if head.forward != _LINEAR_FORWARD.__get__(head):
        return Finding(reasons.HEAD_HOOKS, f"{name}.forward", head.forward)
    if not _is_of("torch.nn.modules.linear", _LINEAR_FORWARD):
        return Finding(reasons.HEAD_HOOKS, "torch.nn.Linear.forward", _LINEAR_FORWARD)
    if nn.functional.linear is not torch._C._nn.linear:
        return Finding(reasons.HEAD_HOOKS, "torch.nn.functional.linear", nn.functional.linear)
    return _weight_finding(head, name)


def _head_finding(module: nn.Module, head: Any, through: dict[str, type[nn.Module]]) -> Finding | None:
    """`_linear_finding` for what a generated forward names: a linear, a weight, or the path of an inner module."""
    if isinstance(head, Projection):
        return _weight_finding(head, "head")
    if isinstance(head, str):
        inner = _below(module, head)
        # The class that was read computes the product itself, from its own weight and bias.
        return _weight_finding(inner, head) if head in through else _linear_finding(inner, head)
    return _linear_finding(head, "head")


def _weight_finding(head: Any, name: str) -> Finding | None:
    """What keeps weight and bias from being plain tensors on a device that the kernel knows, or None."""
    for part, tensor, dimensions in (("weight", head.weight, 2), ("bias", head.bias, 1)):
        is_left_out = tensor is None and part == "bias"
        if not (is_left_out or (is_plain(tensor) and tensor.dim() == dimensions and not tensor.is_meta)):
            return Finding(reasons.HEAD_WEIGHT, f"{name}.{part}", tensor)
    device = head.weight.device
    return None if device.type in _DEVICES else Finding(reasons.DEVICE, f"{name}.weight", device)


def _passed_over_finding(module: nn.Module, through: dict[str, type[nn.Module]]) -> Finding | None:
    """What keeps a module from doing what its class's source says and nothing else, or None."""
    for path, cls in through.items():
        passed = _below(module, path)
        if type(passed) is not cls:
            return Finding(reasons.PASSED_OVER, path, type(passed))
        hook = _hook(passed)
        if hook is not None:
            return Finding(reasons.PASSED_OVER, f"hook of {path}", hook)
        if passed.forward != cls.forward.__get__(passed) or cls.forward.__module__ != cls.__module__:
            return Finding(reasons.PASSED_OVER, f"{path}.forward", passed.forward)
        if cls is _CRITERION:
            for name, value in _CRITERION_SETTINGS.items():
                if getattr(passed, name) != value:
                    return Finding(reasons.PASSED_OVER, f"{path}.{name}", getattr(passed, name))
    return None


def _below(module: nn.Module, path: str) -> Any:
    """What stands at a path below a module, None if there is nothing."""
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def _hook(module: nn.Module) -> Any:
    """A hook that calling a module would run, its own or one for all modules, None if there is none that counts.

    While a compiler traces, those that only watch count too.
    """
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
    if not sum(map(len, hooks)):
        return None
    if torch.compiler.is_compiling():
        return "one or more"
    return next((hook for each in hooks for hook in each.values() if not modes.observes(hook)), None)


def _loss_finding(module: nn.Module, name: str | None) -> Finding | None:
    """Whether the model's loss is the one of that name as transformers defines it, with nothing wrapped or replaced."""
    if name is None:
        return None
    stock = sys.modules.get(stock_losses.MODULE)
    function, inner = getattr(stock, name, None), getattr(stock, stock_losses.INNER, None)
    if module.loss_function is not function or not _is_of(stock_losses.MODULE, function):
        return Finding(reasons.LOSS_FUNCTION, "loss_function", module.loss_function)
    if not _is_of(stock_losses.MODULE, inner):
        return Finding(reasons.LOSS_FUNCTION, stock_losses.INNER, inner)
    for known, part in ((name, function), (stock_losses.INNER, inner)):
        if not _is_known(known, part):
            return Finding(reasons.LOSS_BODY, known, part)
    return None


# Dynamo guards on which function it is, and need not trace how it is read.
_is_known = torch.compiler.assume_constant_result(stock_losses.is_known)


def _cross_entropy_finding(module: nn.Module, loss: str | None) -> Finding | None:
    """Whether what the original calls in the end is torch's own: some put a loss of theirs in its place, by name."""
    function = nn.functional.cross_entropy
    if not _is_of("torch.nn.functional", function):
        return Finding(reasons.CROSS_ENTROPY, "torch.nn.functional.cross_entropy", function)
    if loss is not None:
        return None
    if nn.CrossEntropyLoss is not _CRITERION:
        return Finding(reasons.CROSS_ENTROPY, "torch.nn.CrossEntropyLoss", nn.CrossEntropyLoss)
    if not _is_of("torch.nn.modules.loss", _CRITERION.forward):
        return Finding(reasons.CROSS_ENTROPY, "torch.nn.CrossEntropyLoss.forward", _CRITERION.forward)
    for cls in type(module).__mro__:
        # Modeling files import the class by name.
        named = getattr(sys.modules.get(cls.__module__), "CrossEntropyLoss", _CRITERION)
        if named is not _CRITERION:
            return Finding(reasons.CROSS_ENTROPY, f"{cls.__module__}.CrossEntropyLoss", named)
    return None


def _is_of(module_name: str, function: Any) -> bool:
    """Whether a function is one that a module defines, with nothing wrapped around it."""
    return getattr(function, "__module__", None) == module_name and not hasattr(function, "__wrapped__")


def _transform_finding() -> Finding | None:
    """Whether something other than plain backpropagation goes through this call."""
    if torch._C._functorch.get_dynamic_layer_stack_depth() > 0:
        return Finding(reasons.TRANSFORM, "torch.func")
    return Finding(reasons.TRANSFORM, "forward mode") if forward_ad._current_level >= 0 else None
