"""Why the runtime half leaves a forward alone: stable codes, one sentence each.

FG50x are found by `install`, those from FG511 on by the guards at a call, FG523 to FG525 and FG527 by its fused loss.
"""

from __future__ import annotations

DRIFT = "FG501"
CONFLICT = "FG502"
MISSING = "FG503"
BROKEN = "FG504"
UNVERIFIED = "FG505"
SIGNATURE = "FG506"
UNREADABLE = "FG507"
OVERRIDES = "FG508"
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

REASONS = {
    DRIFT: "the installed modeling file is not the one that this forward was generated from",
    CONFLICT: "somebody else has patched the method already",
    MISSING: "the installed package has no such file, class or method",
    BROKEN: "the generated module cannot be imported",
    UNVERIFIED: "strict asks for a forward that `fusegen verify --record` has verified for the installed version",
    SIGNATURE: "the registered forward cannot be called like the original",
    UNREADABLE: "no forward can be generated from the source of the module",
    OVERRIDES: "it overrides a method that `install()` can fuse for all models and `install(model)` cannot reach",
    POLICY: "the policy says to compute the logits here (fuse='training' leaves evaluation alone)",
    HEAD_TYPE: "the head is not a plain torch.nn.Linear",
    HEAD_HOOKS: "calling the head would run hooks or a replaced forward, which the fused loss would bypass",
    HEAD_WEIGHT: "the head's weight is not a plain floating tensor (sharded, quantised or on the meta device)",
    LOSS_FUNCTION: "the model's loss_function is not the stock one",
    TUPLE: "a tuple was asked for (return_dict=False), whose logits have a place",
    DEVICE: "no backend of the kernel knows the head's device",
    TRANSFORM: "a transform of torch.func or forward-mode differentiation is active, and the kernel has no rule for it",
    PASSED_OVER: "a module that the fused loss passes over is not of the class that was read or has hooks or settings",
    CONDITION: "a condition under which alone the fused loss is equal does not hold (see `where` in the forward)",
    LOSS_BODY: "the stock loss of the installed transformers is written otherwise than the one that the fused loss "
    "computes, or cannot be read; another fusegen may know it (pip install -U fusegen)",
    CROSS_ENTROPY: "torch's cross-entropy or the modeling file's `CrossEntropyLoss` was replaced, which the fused loss "
    "would bypass; what is replaced in the file after install() counts from the next install() on",
    OPERAND: "the kernel does not take a number, bias or width that the chain from head to loss has in this call; its "
    "loss was computed from full logits",
    LABELS: "the kernel takes labels of torch.int64 in a plain tensor, one for each row of hidden states; this loss "
    "was computed from full logits",
    HIDDEN: "the kernel takes hidden states in a plain, dense tensor that fits the head; this loss was computed from "
    "full logits",
    MODE: "a mode of torch is active that may change what it sees, which the fused loss would bypass",
    FAILED: "the fused loss has raised an error",
    NO_LABELS: "a training call without labels: its logits were computed, and the loss elsewhere (a label smoother, "
    "`compute_loss_func` and other losses of a trainer take the labels away)",
}

# What went wrong with fusegen or the file, as against what was refused on purpose.
FAILURES = (BROKEN, UNREADABLE)
