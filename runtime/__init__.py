"""What generated forwards stand on at run time. Needs torch, and nothing of the static half."""

from fusegen.runtime.guards import coverage, fusible
from fusegen.runtime.install import InstallError, InstallReport, install, uninstall
from fusegen.runtime.losses import causal_lm_loss, cross_entropy_loss, masked_lm_loss
from fusegen.runtime.policy import fused

__all__ = [
    "InstallError",
    "InstallReport",
    "causal_lm_loss",
    "coverage",
    "cross_entropy_loss",
    "fused",
    "fusible",
    "install",
    "masked_lm_loss",
    "uninstall",
]
