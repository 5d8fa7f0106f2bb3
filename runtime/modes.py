"""Who sees each operation of a call: the modes of `torch.overrides` and of the dispatcher, and hooks on all modules.

    with FlopCounterMode():        counts operations, and changes none: fused
    with TheirMode():              may change or replace what it sees, cross_entropy among it: the original statements

A class is known by the name of its module and its own there, so that nothing is imported in order to ask.
"""

from __future__ import annotations

import sys
from types import MethodType
from typing import Any

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

# What only watches or counts.
_OBSERVERS = {
    "torch.utils.flop_counter": ("_FlopCounterMode",),
    "torch.utils.module_tracker": ("ModuleTracker",),
    "torch.utils._debug_mode": ("DebugMode",),
    "torch.utils._debug_mode._mode": ("DebugMode",),
    "torch.utils._python_dispatch": ("BaseTorchDispatchMode",),
    "torch.overrides": ("BaseTorchFunctionMode",),
    "torch.cuda._sanitizer": ("CUDASanitizerDispatchMode",),
    "torch.distributed._tools.fsdp2_mem_tracker": ("FSDPMemTracker",),
    "torch.distributed._tools.mem_tracker": ("MemTracker",),
    "torch.distributed._tools.memory_tracker": ("MemoryProfileDispatchMode",),
    "torch.distributed._tools.mod_tracker": ("ModTracker",),
    "torch.distributed._tools.runtime_estimator": ("RuntimeEstimator",),
    "torch.distributed._tools.sac_estimator": ("SACEstimator",),
    "torch.distributed.tensor.debug": ("CommDebugMode",),
    "torch.distributed.tensor.debug._comm_mode": ("CommDebugMode", "_CommModeModuleTracker"),
}
# Where tensors are made, what checkpoints keep, and how torch traces: none of it changes what is computed.
_HARMLESS = {
    "torch.utils._device": ("DeviceContext",),
    "torch.utils.checkpoint": ("_CachingTorchDispatchMode", "_CachedTorchDispatchMode"),
    "torch._subclasses.fake_tensor": ("FakeTensorMode", "FakeCopyMode"),
    "torch._subclasses.functional_tensor": ("FunctionalTensorMode",),
    "torch.fx.experimental.proxy_tensor": (
        "ProxyTorchDispatchMode",
        "PreDispatchTorchFunctionMode",
        "TorchFunctionMetadataMode",
    ),
    "torch._export.non_strict_utils": ("_NonStrictTorchFunctionHandler",),
    "torch.export._safeguard": ("AutogradStateOpsFailSafeguard",),
    "torch._functorch._aot_autograd.runtime_wrappers": ("_AnalyzeCustomOpInputOutputMode",),
    "torch._dynamo._trace_wrapped_higher_order_op": ("TransformGetItemToIndex",),
}


def foreign_function_mode() -> type | None:
    """The class of an active `TorchFunctionMode` that may change what it sees, or None."""
    # Dynamo knows these two functions, and guards on the stack.
    for index in range(torch._C._len_torch_function_stack()):
        cls = type(torch._C._get_function_stack_at(index))
        if not is_harmless(cls):
            return cls
    return None


@torch.compiler.assume_constant_result
def foreign_dispatch_mode() -> type | None:
    """The same of a `TorchDispatchMode`; under one of these `torch.compile` compiles nothing."""
    modes = _get_current_dispatch_mode_stack() if torch._C._len_torch_dispatch_stack() else []
    return next((type(mode) for mode in modes if not is_harmless(type(mode))), None)


@torch.compiler.assume_constant_result
def is_harmless(cls: type) -> bool:
    """Whether a class of modes is one of torch's own that change nothing."""
    return _is_of(cls, _OBSERVERS) or _is_of(cls, _HARMLESS)


def observes(hook: Any) -> bool:
    """Whether a hook is a method of something that only watches."""
    return isinstance(hook, MethodType) and _is_of(type(hook.__self__), _OBSERVERS)


def _is_of(cls: type, known: dict[str, tuple[str, ...]]) -> bool:
    name = cls.__qualname__
    return name in known.get(cls.__module__, ()) and getattr(sys.modules.get(cls.__module__), name, None) is cls
