"""The shared kernel behind every generated forward. Needs torch, and nothing of the static half."""

from fusegen.kernels.linear_cross_entropy.op import linear_cross_entropy
from fusegen.kernels.linear_cross_entropy.reference import LossOutputs, linear_cross_entropy_reference

__all__ = ["LossOutputs", "linear_cross_entropy", "linear_cross_entropy_reference"]
