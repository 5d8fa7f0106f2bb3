"""The protocol of every operator of this project: a forward in two phases.

`torch.compile` traces a forward without side effects, so an operator keeps its computation and the saving
of its context apart:

    @dataclass(frozen=True, eq=False)
    class Double(Operator, name="double"):
        @staticmethod
        def forward_compute(x: Tensor) -> tuple[Tensors, Tensors]:        # pure: outputs, tensors to save
            return (x * 2,), ()

        @staticmethod
        def save_context(ctx, inputs, saved) -> None: ...                 # side effects only

        @staticmethod
        def backward(ctx, gradient) -> Tensors:                       # one per input; Nones may be left out
            return (gradient * 2,)

Defining the class registers `torch.ops.fusegen.double` with a fake kernel, autograd and autocast rules, so
that a compiled graph sees one node, and `save_context` runs on fake tensors, once in each pass of the tracer.
The older form, one `forward(ctx, *inputs)` instead of the pair, is accepted: such an operator runs eagerly,
and is a graph break under `torch.compile`.

An operator that is a dataclass holds its operands: `SoftCap(30.0)(logits)` is `SoftCap.apply(logits, 30.0)`.

Derivatives, transforms of `torch.func` and batched gradients are in `derivatives.py`: a backward is linear in the
gradients that come in, and can be differentiated by them; by the inputs it cannot, which is an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active as transforms_are_active
from torch.autograd import forward_ad

from fusegen.kernels.derivatives import differentiable_backward, loop_over_batch, no_forward_mode, set_up
from fusegen.kernels.flops import count_flops, tell_counters

NAMESPACE = "fusegen"
AUTOCAST_KEYS = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA", "xpu": "AutocastXPU"}

Tensors = tuple[Any, ...]

_autocast_rules = torch.library.Library(NAMESPACE, "FRAGMENT")


class Operator:
    """Base of all operators; a subclass names itself (`class Bias(Operator, name="bias")`) and is registered.

    results: the outputs that have a gradient; auxiliary: those that follow and have none.
    intermediates: what `forward_compute` computes for `save_context` beyond the inputs. No output may be an
        input or a view of one.
    lowered, raised: inputs that autocast brings to its own dtype, and to float32. float64 stays.

    Beside the forms of the forward a class may define, as static methods,
    jvp(ctx, *tangents) -> Tensors: of the results, along tangents of the inputs (None where there is none): what
        `backward` is differentiated with. Needed where `backward` is not made of differentiable functions of torch.
    flops(*inputs) -> int: of the forward, for `FlopCounterMode`; tensors are given as their shapes.

    Raises:
        TypeError: at the definition of a subclass that has both forms of the forward, or half of one.
    """

    name: ClassVar[str]
    results: ClassVar[tuple[str, ...]] = ("logits",)
    auxiliary: ClassVar[tuple[str, ...]] = ()
    intermediates: ClassVar[tuple[str, ...]] = ()
    lowered: ClassVar[tuple[str, ...]] = ()
    raised: ClassVar[tuple[str, ...]] = ()
    is_legacy: ClassVar[bool]
    _eager: ClassVar[Any]
    _registered: ClassVar[Any]

    def __init_subclass__(cls, name: str, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.name = name
        cls.is_legacy = _is_legacy(cls)
        cls._eager = type(f"Eager{cls.__name__}", (torch.autograd.Function,), _eager_methods(cls))
        if not cls.is_legacy:
            cls._registered = _register(cls)

    @classmethod
    def apply(cls, *inputs: Any) -> Any:
        """The outputs: one tensor, or a tuple where there are several. A legacy operator breaks a compiled graph.

        Raises:
            NotImplementedError: an input has a tangent of forward-mode differentiation.
        """
        if forward_ad._current_level >= 0 and any(_has_tangent(each) for each in inputs):
            raise no_forward_mode(cls.name)
        if cls.is_legacy:
            return cls.apply_eagerly(*inputs)
        if not torch.compiler.is_compiling():
            if torch._C._len_torch_dispatch_stack():
                tell_counters()
            if transforms_are_active():
                return cls._visible(cls._eager.apply(*_autocast(cls, inputs)))
        return cls._registered(*inputs)

    @classmethod
    @torch.compiler.disable
    def apply_eagerly(cls, *inputs: Any) -> Any:
        """As `apply`, through `torch.autograd.Function` and without the dispatcher."""
        return cls._visible(cls._eager.apply(*inputs))

    @classmethod
    def _visible(cls, outputs: Any) -> Any:
        """Without the intermediates."""
        if cls.is_legacy or not cls.intermediates:
            return outputs
        count = len(cls.results) + len(cls.auxiliary)
        return outputs[:count] if count > 1 else outputs[0]

    def operands(self) -> tuple[Any, ...]:
        """What this operator holds, in the order of `forward_compute` after its first input."""
        return tuple(getattr(self, field) for field in getattr(type(self), "__dataclass_fields__", ()))

    def __call__(self, first: Tensor) -> Any:
        return type(self).apply(first, *self.operands())

    def call_eagerly(self, first: Tensor) -> Any:
        return type(self).apply_eagerly(first, *self.operands())


def _has_tangent(value: Any) -> bool:
    return isinstance(value, Tensor) and forward_ad.unpack_dual(value).tangent is not None


def _is_legacy(cls: type) -> bool:
    """Which form a class has; raises `TypeError` if it is none, both or half of one."""

    def has(method: str) -> bool:
        return callable(getattr(cls, method, None))

    if has("forward"):
        for clashing in ("forward_compute", "save_context"):
            if has(clashing):
                raise TypeError(f"{cls.__name__}: `forward` and `{clashing}` are both defined; keep one form")
    else:
        for needed, other in (("forward_compute", "save_context"), ("save_context", "forward_compute")):
            if not has(needed):
                hint = f"`{other}` is defined" if has(other) else "neither form of the forward is defined"
                raise TypeError(f"{cls.__name__}: `{needed}` is missing ({hint})")
    if not has("backward"):
        raise TypeError(f"{cls.__name__}: `backward` is missing")
    return has("forward")


def _eager_methods(cls: Any) -> dict[str, Any]:
    if cls.is_legacy:
        return {"forward": staticmethod(cls.forward), "backward": staticmethod(cls.backward)}

    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return loop_over_batch(cls._eager.apply, info, in_dims, inputs)

    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise no_forward_mode(cls.name)

    methods = {"forward": _compute(cls), "setup_context": set_up(cls), "backward": differentiable_backward(cls)}
    return {name: staticmethod(method) for name, method in (methods | {"vmap": vmap, "jvp": jvp}).items()}


def _compute(cls: Any) -> Callable[..., Any]:
    """The forward with all outputs in a row, those to save last."""

    def compute(*inputs: Any) -> Any:
        outputs, saved = cls.forward_compute(*inputs)
        return (*outputs, *saved) if len(outputs) + len(saved) > 1 else outputs[0]

    return compute


def _register(cls: Any) -> Callable[..., Any]:
    """Declares `torch.ops.fusegen.<name>`; returns what calls it and hides the tensors to save."""
    signature = inspect.signature(cls.forward_compute, eval_str=True)
    visible = len(cls.results) + len(cls.auxiliary)
    count = visible + len(cls.intermediates)

    def fake(*inputs: Any) -> Any:
        outputs, saved = getattr(cls, "forward_fake", cls.forward_compute)(*inputs)
        return (*outputs, *saved) if count > 1 else outputs[0]

    schema = _schema(signature, count)
    operator = torch.library.custom_op(
        f"{NAMESPACE}::{cls.name}",
        _compute(cls),
        mutates_args=(),
        schema=schema,
        tags=(torch.Tag.cudagraph_unsafe,) if cls.__dict__.get("synchronises") else None,
    )
    operator.register_fake(fake)
    operator.register_autograd(differentiable_backward(cls), setup_context=set_up(cls))
    operator.register_vmap(
        lambda info, in_dims, *inputs: loop_over_batch(getattr(torch.ops.fusegen, cls.name), info, in_dims, inputs)
    )
    if hasattr(cls, "flops"):
        count_flops(cls.name, cls.flops)
    _register_autocast(cls, list(signature.parameters))
    overload = getattr(torch.ops.fusegen, cls.name).default
    return overload if visible == count else lambda *inputs: cls._visible(overload(*inputs))


def _schema(signature: inspect.Signature, outputs: int) -> str:
    result: Any = Tensor if outputs == 1 else tuple[(Tensor,) * outputs]  # type: ignore[misc]

    def prototype() -> None:
        """Only looked at."""

    prototype.__signature__ = signature.replace(return_annotation=result)  # type: ignore[attr-defined]
    return torch.library.infer_schema(prototype, mutates_args=())


def _register_autocast(cls: Any, names: Sequence[str]) -> None:
    """Below autocast the operator runs with autocast off, on inputs that its rule has cast (differentiably)."""
    overload = getattr(torch.ops.fusegen, cls.name).default
    for device, key in AUTOCAST_KEYS.items():
        dispatch_key = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

        def kernel(_: Any, *inputs: Any, device: str = device, excluded: Any = dispatch_key) -> Any:
            cast = [_cast(value, device, name in cls.lowered, name in cls.raised) for name, value in zip(names, inputs)]  # noqa: B905
            with torch._C._ExcludeDispatchKeyGuard(excluded):
                return overload(*cast)

        _autocast_rules.impl(cls.name, kernel, key, with_keyset=True)


def _autocast(cls: Any, inputs: tuple[Any, ...]) -> Sequence[Any]:
    """The inputs as the autocast rule casts them, for a call that does not go through the dispatcher."""
    device = next((each.device.type for each in inputs if isinstance(each, Tensor)), "meta")
    if device not in AUTOCAST_KEYS or not torch.is_autocast_enabled(device):
        return inputs
    names = inspect.signature(cls.forward_compute).parameters
    return [_cast(value, device, name in cls.lowered, name in cls.raised) for name, value in zip(names, inputs)]  # noqa: B905


def _cast(value: Any, device: str, lowered: bool, raised: bool) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == torch.float64:
        return value
    if lowered:
        return value.to(torch.get_autocast_dtype(device))
    return value.float() if raised else value
