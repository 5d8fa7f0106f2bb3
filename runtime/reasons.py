"""Why the runtime half leaves a forward alone: the names of the codes that `contract/reasons.py` explains.

FG50x are found by `install`, those from FG511 on by the guards at a call, FG523 to FG525 and FG527 by its fused loss.
"""

from __future__ import annotations

from fusegen.contract import reasons as contract

DRIFT = "FG501"
CONFLICT = "FG502"
MISSING = "FG503"
BROKEN = "FG504"
UNVERIFIED = "FG505"
SIGNATURE = "FG506"
UNREADABLE = "FG507"
OVERRIDES = "FG508"
STAND_IN = "FG509"
EARLIER = "FG510"
POLICY = "FG511"
HEAD_TYPE = "FG512"
HEAD_HOOKS = "FG513"
HEAD_WEIGHT = "FG514"
LOSS_FUNCTION = "FG515"
TUPLE = "FG516"
DEVICE = "FG517"
TRANSFORM = "FG518"
PASSED_OVER = "FG519"
CONDITION = "FG520"
LOSS_BODY = "FG521"
CROSS_ENTROPY = "FG522"
OPERAND = "FG523"
LABELS = "FG524"
HIDDEN = "FG525"
MODE = "FG526"
FAILED = "FG527"
NO_LABELS = "FG528"

# The sentence of each code. What else is to be said of it stands beside it, where `fusegen rule` finds it too.
REASONS = {code: reason.summary for code, reason in contract.REASONS.items()}

# What went wrong with fusegen or the file, as against what was refused on purpose.
FAILURES = (BROKEN, UNREADABLE)
