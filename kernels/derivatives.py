"""Derivatives of every operator of the protocol, beyond its own backward.

    loss = weight * linear_cross_entropy(...)                    weight: learned, or one for each token
    gradient = torch.autograd.grad(loss, hidden, create_graph=True)
    gradient.sum().backward()                                    reaches weight; hidden and head: an error

A backward B(g) is linear in the gradients g that come in. What it gives can therefore be differentiated by g, which
is the derivative J of the forward along a tangent v: <B(g), v> = <g, J(v)>. B and J are each other's derivative, so
the two functions here can be differentiated as often as somebody asks. By the inputs of the operator they cannot:
`_SecondDerivative` stands for that path, and raises where it is taken.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor, is_legacy_batchedtensor

UNFUSED = 'compute this loss unfused: with plain torch, or in `fusegen.fused(fuse="never")`'

Tensors = tuple[Any, ...]


class Context:
    """What `save_context` leaves for `backward` and `jvp`: attributes, and tensors.

    materializes_grads: whether a result that nobody differentiated has a gradient of zeros in the backward, or None.
    """

    materializes_grads = True

    def __init__(self, ctx: Any) -> None:
        self.needs_input_grad: tuple[bool, ...] = ctx.needs_input_grad
        self.saved_tensors: Tensors = ()
        self.keeps_saved = False
        self.watched: list[Tensor] = []

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors, which are `saved_tensors` in the backward. To change one in place before is torch's error."""
        self.saved_tensors = tensors

    def watch(self, *tensors: Tensor | None) -> None:
        """The same error for tensors that are not kept, where the statements that are replaced would keep them.

        Not under a compiler or a mode of dispatch: neither lets a tensor be made that only counts.
        """
        self.watched += [_version(each) for each in tensors if each is not None and _has_version(each)]

    def within(self, ctx: Any, saved: Tensors, keeps_saved: bool = False) -> Any:
        """A copy for one backward. keeps_saved: somebody else uses the saved tensors after it."""
        here = copy.copy(self)
        here.needs_input_grad, here.saved_tensors, here.keeps_saved = ctx.needs_input_grad, saved, keeps_saved
        return here


def is_transformed(tensor: Tensor) -> bool:
    """Whether `torch.func` or `is_grads_batched` has wrapped a tensor, so that its memory is not its own."""
    if torch.compiler.is_compiling():
        return False
    return is_functorch_wrapped_tensor(tensor) or is_legacy_batchedtensor(tensor)


def _has_version(tensor: Tensor) -> bool:
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling()
    watched = plain and not torch._C._len_torch_dispatch_stack() and not is_transformed(tensor)
    return watched and not tensor.is_inference()


def _version(tensor: Tensor) -> Tensor:
    """A tensor without memory that has the version counter of another."""
    counter = tensor.detach()
    counter.data = tensor.new_empty(0)
    return counter


def set_up(cls: Any) -> Callable[..., None]:
    """The `setup_context` of an operator."""

    def setup_context(ctx: Any, inputs: Tensors, output: Any) -> None:
        outputs = output if isinstance(output, tuple) else (output,)
        ctx.mark_non_differentiable(*outputs[len(cls.results) :])
        context = Context(ctx)
        cls.save_context(context, inputs, outputs[len(cls.results) + len(cls.auxiliary) :])
        ctx.set_materialize_grads(context.materializes_grads)
        saved, context.saved_tensors = context.saved_tensors, ()
        ctx.context, ctx.n_saved, ctx.second_derivative = context, len(saved), None
        leading: Tensors = ()
        if any(isinstance(each, Tensor) and is_functorch_wrapped_tensor(each) for each in inputs):
            # No function can be called here at the level of the transform; the backward can.
            leading = tuple(each for each in inputs if isinstance(each, Tensor))
        else:
            with torch.enable_grad():
                ctx.second_derivative = _SecondDerivative.apply(cls.name, *inputs)
        ctx.save_for_backward(*saved, *leading, *context.watched)
        ctx.n_leading, context.watched = len(leading), []

    return setup_context


def differentiable_backward(cls: Any) -> Callable[..., Any]:
    """The backward, with a None for each input that it leaves out, and differentiable by what it gets."""

    def backward(ctx: Any, *gradients: Any) -> Any:
        kept = ctx.saved_tensors
        saved, gradients = kept[: ctx.n_saved], gradients[: len(cls.results)]
        if torch.is_grad_enabled():
            zero = ctx.second_derivative
            if zero is None:
                zero = _SecondDerivative.apply(cls.name, *kept[ctx.n_saved : ctx.n_saved + ctx.n_leading])
            rule = _Rule(cls, ctx.context.within(ctx, ()), len(saved), [each is not None for each in gradients])
            inputs = rule.backward(zero, saved, tuple(each for each in gradients if each is not None))
        else:
            inputs = cls.backward(ctx.context.within(ctx, saved), *gradients)
        return (*inputs, *[None] * (len(ctx.needs_input_grad) - len(inputs)))

    return backward


def no_forward_mode(name: str) -> NotImplementedError:
    """The error of differentiating in forward mode."""
    return NotImplementedError(f"{name}: no forward-mode derivative is defined; {UNFUSED}")


class _Function(torch.autograd.Function):
    """One with a clear error in forward mode."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise no_forward_mode("the gradient of a fused operator")


class _SecondDerivative(_Function):
    """A zero that depends on the inputs of an operator, and whose derivative is an error."""

    @staticmethod
    def forward(name: str, *inputs: Any) -> Tensor:
        return torch.zeros(())

    @staticmethod
    def setup_context(ctx: Any, inputs: Tensors, output: Any) -> None:
        ctx.name = inputs[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        raise NotImplementedError(f"{ctx.name}: no second derivative is defined; {UNFUSED}")

    @staticmethod
    def vmap(info: Any, in_dims: Any, name: str, *inputs: Any) -> Any:
        return _SecondDerivative.apply(name, *inputs), None


class _Rule:
    """B and J of one call of an operator, as functions of its saved tensors, gradients and tangents.

    given: which results have a gradient. returned: which inputs get one, known once B has run.
    """

    def __init__(self, cls: Any, context: Context, n_saved: int, given: list[bool]) -> None:
        self.cls, self.context, self.n_saved, self.given = cls, context, n_saved, given
        self.returned: list[bool] = []

    def backward(self, zero: Tensor, saved: Tensors, gradients: Tensors) -> Tensors:
        """B(g), with a None where an input has no gradient."""
        return _spread(_Backward.apply(self, zero, *saved, *gradients), self.returned) if gradients else ()

    def b(self, tensors: Tensors) -> Tensors:
        saved, gradients = tensors[: self.n_saved], _spread(tensors[self.n_saved :], self.given)
        inputs = self.cls.backward(self._context(saved), *gradients)
        self.returned = [each is not None for each in inputs]
        return tuple(each for each in inputs if each is not None)

    def j(self, tensors: Tensors) -> Tensors:
        middle = self.n_saved + sum(self.given)
        saved, gradients, tangents = tensors[: self.n_saved], tensors[self.n_saved : middle], tensors[middle:]
        if not hasattr(self.cls, "jvp"):
            return self._j_by_autograd(saved, gradients, tangents)
        found = self.cls.jvp(self._context(saved), *_spread(tangents, self.returned))
        return tuple(each for each, given in zip(found, self.given, strict=True) if given)

    def _j_by_autograd(self, saved: Tensors, gradients: Tensors, tangents: Tensors) -> Tensors:
        with torch.enable_grad():
            leaves = [each.detach().requires_grad_() for each in gradients]
            inputs = self.b((*[None if each is None else each.detach() for each in saved], *leaves))
        if not all(each.requires_grad for each in inputs):
            raise NotImplementedError(
                f"{self.cls.name}: the derivative of its gradient is not defined, since its backward is not made of"
                f" differentiable functions and it has no `jvp`; {UNFUSED}"
            )
        along = [(each, tangent) for each, tangent in zip(inputs, tangents, strict=True) if tangent is not None]
        found = torch.autograd.grad([i for i, _ in along], leaves, [t for _, t in along], allow_unused=True)
        return tuple(torch.zeros_like(g) if f is None else f for f, g in zip(found, gradients, strict=True))

    def _context(self, saved: Tensors) -> Any:
        return self.context.within(self.context, saved, keeps_saved=True)


class _Backward(_Function):
    """B of a rule, by (rule, zero, *saved, *gradients)."""

    @staticmethod
    def forward(rule: _Rule, zero: Tensor, *tensors: Any) -> Any:
        return _fresh(rule.b(tensors), tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Tensors, output: Any) -> None:
        ctx.rule = inputs[0]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *tangents: Any) -> Any:
        zero, *tensors = ctx.saved_tensors
        by_gradients = _Tangent.apply(ctx.rule, zero, *tensors, *tangents)
        return None, torch.zeros_like(zero), *[None] * ctx.rule.n_saved, *by_gradients

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return loop_over_batch(_Backward.apply, info, in_dims, inputs)


class _Tangent(_Function):
    """J of a rule, by (rule, zero, *saved, *gradients, *tangents); the gradients tell only what they are like."""

    @staticmethod
    def forward(rule: _Rule, zero: Tensor, *tensors: Any) -> Any:
        return _fresh(rule.j(tensors), tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Tensors, output: Any) -> None:
        ctx.rule = inputs[0]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (zero, *tensors), rule = ctx.saved_tensors, ctx.rule
        likes, tangents = tensors[rule.n_saved :][: len(gradients)], tensors[rule.n_saved + len(gradients) :]
        # A gradient that nobody gave is one of zeros.
        pairs = zip(gradients, likes, strict=True)
        gradients = tuple(torch.zeros_like(like) if g is None else g for g, like in pairs)
        by_tangents = _Backward.apply(rule, zero, *tensors[: rule.n_saved], *gradients)
        by_operands = [None if t is None else b for t, b in zip(tangents, by_tangents, strict=True)]
        return None, torch.zeros_like(zero), *[None] * (rule.n_saved + len(gradients)), *by_operands

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        return loop_over_batch(_Tangent.apply, info, in_dims, inputs)


def loop_over_batch(function: Callable[..., Any], info: Any, in_dims: Any, inputs: Sequence[Any]) -> Any:
    """A rule for `torch.func.vmap`: one call for each entry of the batch; outputs and their batch dimensions."""
    found = []
    for entry in range(info.batch_size):
        pairs = zip(inputs, in_dims, strict=True)
        found.append(function(*[each.select(dim, entry) if isinstance(dim, int) else each for each, dim in pairs]))
    if isinstance(found[0], tuple):
        return tuple(torch.stack(each) for each in zip(*found, strict=True)), (0,) * len(found[0])
    return torch.stack(found), 0


def _fresh(outputs: Tensors, inputs: Tensors) -> Tensors:
    """The outputs, those that are an input copied: a function must not return what it was given."""
    return tuple(each.clone() if any(each is other for other in inputs) else each for each in outputs)


def _spread(values: Tensors, places: list[bool]) -> Tensors:
    """Values at the places that are True, None at the others."""
    rest = iter(values)
    return tuple(next(rest) if place else None for place in places)
