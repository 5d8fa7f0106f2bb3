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
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

NAMESPACE = "fusegen"
AUTOCAST_KEYS = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA", "xpu": "AutocastXPU"}

UNFUSED = 'compute this loss unfused: with plain torch, or in `fusegen.fused(fuse="never")`'

Tensors = tuple[Any, ...]

_autocast_rules = torch.library.Library(NAMESPACE, "FRAGMENT")


class Operator:
    """Base of all operators; a subclass names itself (`class Bias(Operator, name="bias")`) and is registered.

    results: the outputs that have a gradient; auxiliary: those that follow and have none.
    intermediates: what `forward_compute` computes for `save_context` beyond the inputs. No output may be an
        input or a view of one.
    lowered, raised: inputs that autocast brings to its own dtype, and to float32. float64 stays.

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
            raise NotImplementedError(f"{cls.name}: no forward-mode derivative is defined; {UNFUSED}")
        return cls.apply_eagerly(*inputs) if cls.is_legacy else cls._registered(*inputs)

    @classmethod
    @torch.compiler.disable
    def apply_eagerly(cls, *inputs: Any) -> Any:
        """As `apply`, through `torch.autograd.Function` and without the dispatcher."""
        return cls._eager.apply(*inputs)

    def operands(self) -> tuple[Any, ...]:
        """What this operator holds, in the order of `forward_compute` after its first input."""
        return tuple(getattr(self, field) for field in getattr(type(self), "__dataclass_fields__", ()))

    def __call__(self, first: Tensor) -> Any:
        return type(self).apply(first, *self.operands())

    def call_eagerly(self, first: Tensor) -> Any:
        return type(self).apply_eagerly(first, *self.operands())


class _SecondDerivative(torch.autograd.Function):
    """A zero that depends on the inputs of an operator, and whose derivative is an error."""

    @staticmethod
    def forward(ctx: Any, name: str, *inputs: Any) -> Tensor:
        ctx.name = name
        return torch.zeros(())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise NotImplementedError(f"{ctx.name}: no second derivative is defined; {UNFUSED}")


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

    def forward(ctx: Any, *inputs: Any) -> Any:
        outputs, saved = cls.forward_compute(*inputs)
        ctx.mark_non_differentiable(*outputs[len(cls.results) :])
        _save_context(cls, ctx, inputs, saved)
        return outputs[0] if len(outputs) == 1 else outputs

    return {"forward": staticmethod(forward), "backward": staticmethod(_once_differentiable(cls))}


def _save_context(cls: Any, ctx: Any, inputs: tuple[Any, ...], saved: Tensors) -> None:
    cls.save_context(ctx, inputs, saved)
    with torch.enable_grad():
        ctx.second_derivative = _SecondDerivative.apply(cls.name, *inputs)


def _once_differentiable(cls: Any) -> Callable[..., Any]:
    """The backward, with a None for each input that it leaves out. What it returns cannot be differentiated again.

    torch's own `once_differentiable` says so only where the incoming gradient depends on something.
    """

    def backward(ctx: Any, *gradients: Any) -> Any:
        with torch.no_grad():
            inputs = cls.backward(ctx, *gradients[: len(cls.results)])
        if torch.is_grad_enabled():
            zero = ctx.second_derivative
            inputs = [None if each is None else each + zero.to(each.device, each.dtype) for each in inputs]
        return (*inputs, *[None] * (len(ctx.needs_input_grad) - len(inputs)))

    return backward


def _register(cls: Any) -> Callable[..., Any]:
    """Declares `torch.ops.fusegen.<name>`; returns what calls it and hides the tensors to save."""
    signature = inspect.signature(cls.forward_compute, eval_str=True)
    visible = len(cls.results) + len(cls.auxiliary)
    count = visible + len(cls.intermediates)

    def compute(*inputs: Any) -> Any:
        outputs, saved = cls.forward_compute(*inputs)
        return (*outputs, *saved) if count > 1 else outputs[0]

    def fake(*inputs: Any) -> Any:
        outputs, saved = getattr(cls, "forward_fake", cls.forward_compute)(*inputs)
        return (*outputs, *saved) if count > 1 else outputs[0]

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        outputs = output if count > 1 else (output,)
        ctx.mark_non_differentiable(*outputs[len(cls.results) :])
        _save_context(cls, ctx, inputs, outputs[visible:])

    schema = _schema(signature, count)
    operator = torch.library.custom_op(
        f"{NAMESPACE}::{cls.name}",
        compute,
        mutates_args=(),
        schema=schema,
        tags=(torch.Tag.cudagraph_unsafe,) if cls.__dict__.get("synchronises") else None,
    )
    operator.register_fake(fake)
    operator.register_autograd(_once_differentiable(cls), setup_context=setup_context)
    _register_autocast(cls, list(signature.parameters))
    overload = getattr(torch.ops.fusegen, cls.name).default
    if visible == count:
        return overload

    def call(*inputs: Any) -> Any:
        outputs = overload(*inputs)
        return outputs[:visible] if visible > 1 else outputs[0]

    return call


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


def _cast(value: Any, device: str, lowered: bool, raised: bool) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == torch.float64:
        return value
    if lowered:
        return value.to(torch.get_autocast_dtype(device))
    return value.float() if raised else value
