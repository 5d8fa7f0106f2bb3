"""The shared kernel behind every generated forward. Needs torch, and nothing of the static half."""

from fusegen.kernels.linear_cross_entropy.op import linear_cross_entropy
from fusegen.kernels.linear_cross_entropy.reference import LossOutputs, linear_cross_entropy_reference

# What generated code may call. A change that an older generated tree would notice counts it up, in codegen as well.
INTERFACE_VERSION = 1

__all__ = ["INTERFACE_VERSION", "LossOutputs", "linear_cross_entropy", "linear_cross_entropy_reference"]
