"""The gradient of the loss times what the rest of the graph hands back, which is 1 in nearly every backward.

Gradients are computed in the forward. Where the factor is 1 they must not be read or written again, and to
learn that it is must not wait for the device: so the kernel itself looks, and returns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusegen.kernels.derivatives import is_transformed
from fusegen.kernels.devices import on, triton_drives

PIECE = 2**22
"""Elements that are widened at once where low precision is multiplied without Triton."""


@torch.library.custom_op("fusegen::multiply_unless_one_", mutates_args=("gradient",))
def multiply_unless_one_(gradient: Tensor, factor: Tensor) -> None:
    """`gradient *= factor` with one rounding, for a contiguous gradient of any shape and a factor of one element."""
    if gradient.numel() == 0:
        return
    if gradient.device.type == "cpu":
        if factor.item() != 1:
            _multiply_(gradient, factor)
    elif triton_drives(gradient.device):
        from fusegen.kernels.linear_cross_entropy.rescale_kernel import launch

        with on(gradient.device):
            launch(gradient, factor)
    else:
        _multiply_(gradient, factor)


@multiply_unless_one_.register_fake
def _(gradient: Tensor, factor: Tensor) -> None:
    return None


def times(gradient: Tensor, factor: Tensor, keep: bool = False) -> Tensor:
    """`gradient * factor`, in the gradient's memory where nobody can ask for it again and it need not be kept.

    What `torch.autograd.graph.saved_tensors_hooks` keep of a saved gradient without a copy changes with it.
    A compiler that traces this gets it without a change in place: by tensors of its own classes where it traces
    forward and backward at once, as compiled autograd where it traces the backward alone.
    """
    if is_transformed(factor) or is_transformed(gradient):
        return (gradient.to(torch.promote_types(gradient.dtype, torch.float32)) * factor).to(gradient.dtype)
    tracing = torch.compiler.is_compiling() or type(gradient) is not Tensor
    if keep or tracing or torch._C._autograd._get_current_graph_task_keep_graph():
        gradient = gradient.clone()
    else:
        # Another tensor on the same memory: autograd copies a gradient that something else refers to as well.
        gradient = gradient.detach()
    multiply_unless_one_(gradient, factor)
    return gradient


def dot(gradient: Tensor, tangent: Tensor) -> Tensor:
    """The sum of their products, 0-d, in float32 or better."""
    wide = torch.promote_types(gradient.dtype, torch.float32)
    pieces = zip(gradient.reshape(-1).split(PIECE), tangent.reshape(-1).split(PIECE), strict=True)
    return torch.stack([(one.to(wide) * other.to(wide)).sum() for one, other in pieces]).sum()


def _multiply_(gradient: Tensor, factor: Tensor) -> None:
    wide = torch.promote_types(gradient.dtype, torch.float32)
    if wide == gradient.dtype:
        gradient.mul_(factor.to(wide))
        return
    for piece in gradient.view(-1).split(PIECE):
        piece.copy_(piece.to(wide) * factor.to(wide))
