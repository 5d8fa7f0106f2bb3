"""The basic operators, one a file, each its own reference: between them, every chain from hidden states to a loss.

Their names, and the names of what they hold, are those by which a scan reports a chain.
"""

from fusegen.kernels.ops.bias import Bias
from fusegen.kernels.ops.cast import Cast
from fusegen.kernels.ops.cross_entropy import CrossEntropy
from fusegen.kernels.ops.linear import Linear
from fusegen.kernels.ops.scale import LogitScale
from fusegen.kernels.ops.sequence import Sequence
from fusegen.kernels.ops.soft_cap import SoftCap
from fusegen.kernels.ops.vocab_slice import VocabSlice

__all__ = ["Bias", "Cast", "CrossEntropy", "Linear", "LogitScale", "Sequence", "SoftCap", "VocabSlice"]
