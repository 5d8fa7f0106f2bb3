"""What generated forwards stand on at run time. Needs torch, and nothing of the static half."""

from fusegen.runtime.audit import audit
from fusegen.runtime.calls import coverage
from fusegen.runtime.canonical import register_canonical, structural_hash, unregister_canonical
from fusegen.runtime.guards import fusible
from fusegen.runtime.install import fused, install, uninstall
from fusegen.runtime.losses import causal_lm_loss, cross_entropy_loss, masked_lm_loss, stock_keywords
from fusegen.runtime.original_class import stands_for_original
from fusegen.runtime.outcomes import InstallError, InstallReport
from fusegen.runtime.projection import Projection
from fusegen.runtime.takeover import take_over
from fusegen.runtime.tuples import can_return_tuple, capture_outputs, check_model_inputs

__all__ = [
    "InstallError",
    "InstallReport",
    "Projection",
    "audit",
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
    "register_canonical",
    "stands_for_original",
    "stock_keywords",
    "structural_hash",
    "uninstall",
    "unregister_canonical",
]

take_over()
