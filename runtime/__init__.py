"""What generated forwards stand on at run time. Needs torch, and nothing of the static half."""

from fusegen.runtime.guards import coverage, fusible
from fusegen.runtime.install import InstallError, InstallReport, install, uninstall
from fusegen.runtime.losses import causal_lm_loss, cross_entropy_loss, masked_lm_loss
from fusegen.runtime.original_class import stands_for_original
from fusegen.runtime.policy import fused
from fusegen.runtime.projection import Projection
from fusegen.runtime.tuples import can_return_tuple, capture_outputs, check_model_inputs

__all__ = [
    "InstallError",
    "InstallReport",
    "Projection",
    "can_return_tuple",
    "capture_outputs",
    "causal_lm_loss",
    "check_model_inputs",
    "coverage",
    "cross_entropy_loss",
    "fused",
    "fusible",
    "install",
    "masked_lm_loss",
    "stands_for_original",
    "uninstall",
]
