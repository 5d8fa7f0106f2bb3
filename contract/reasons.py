"""The codes of a running program: why the runtime half leaves a forward alone, or a call of it.

FG50x and FG510 are found by `install`, those from FG511 on by the guards at a call, FG523 to FG525 and FG527 by its
loss. `runtime/reasons.py` has their names, `codegen/reasons.py` the codes of what is read; `fusegen rule` explains
them all.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """`summary` is the one line of the report; `why` says what could go wrong; `remedy` what would make it fusible."""

    code: str
    name: str
    summary: str
    why: str
    example: str
    remedy: str


_ALL = (
    Reason(
        "FG501",
        "drift",
        "the installed modeling file is not the one that this forward was generated from",
        "A forward is right for the one text that it was generated from, and for no other.",
        "fusegen.install('generated/')  # of transformers 5.23.0, with 5.24.0 installed",
        "Generate the tree again with `fusegen emit --force`; "
        "without `strict=True`, `install()` generates one in memory.",
    ),
    Reason(
        "FG502",
        "conflict",
        "somebody else has patched the method already",
        "Two patches of one method cannot both hold: the later one would undo what the first one promised.",
        "apply_liger_kernel_to_llama(); fusegen.install()",
        "Use one of the two for this class; the report names whose function is there.",
    ),
    Reason(
        "FG503",
        "missing",
        "the installed package has no such file, class or method",
        "There is nothing that the forward could be put on.",
        "fusegen.install('generated/')  # with a model that the installed release does not have",
        "Install the release that the tree is for, or generate the tree from the one that is installed.",
    ),
    Reason(
        "FG504",
        "broken",
        "the generated module cannot be imported",
        "A file of the generated tree is damaged, was edited, or needs what is not installed.",
        "SyntaxError in generated/llama/modeling_llama.py",
        "Remove the file and run `fusegen emit` again; please report it if that does not help.",
    ),
    Reason(
        "FG505",
        "unverified",
        "strict asks for a forward that `fusegen verify --record` has verified for the installed version",
        "`strict=True` promises that what is installed was compared with its original, number by number.",
        "fusegen.install(strict=True)",
        "Run `fusegen verify --record` on the tree with this release, or install without `strict`.",
    ),
    Reason(
        "FG506",
        "signature",
        "the registered forward cannot be called like the original",
        "Callers pass the arguments of the original, by name and by position.",
        "fusegen.register_canonical(hash, lambda self, x: ...)",
        "A forward with the parameters of the original, in their order.",
    ),
    Reason(
        "FG507",
        "unreadable",
        "no forward can be generated from the source of the module",
        "What cannot be read cannot be understood, and what is not understood is not replaced.",
        "a module without a file, or one that was changed since it was imported",
        "Python files on disk, as they were imported; the line in the log says what is in the way.",
    ),
    Reason(
        "FG508",
        "overrides",
        "it overrides a method that can be fused, and does not call that",
        "What runs is the method of the subclass, which computes its loss itself.",
        "class Mine(LlamaForCausalLM): def forward(self, **kwargs): ...  # without super().forward(...)",
        "Call the method of the base class, or compute the loss in a way that `fusegen scan` finds.",
    ),
    Reason(
        "FG509",
        "cannot-stand-in",
        "the generated forward cannot run in the place of the original",
        "It runs by the names, the defaults and the decorators of the original. A decorator that keeps the original "
        "where it cannot be exchanged would go on calling that, and other parameters have no defaults there.",
        "def remembered(f): FORWARDS.append(f); return lambda *args: FORWARDS[-1](*args)",
        "A decorator that holds the function in a variable, as `functools.wraps` wrappers do; in a tree of your own, "
        "the parameters of the original.",
    ),
    Reason(
        "FG510",
        "prepared-earlier",
        "the instance has a forward of its own, which was put there before `install()` and calls the original",
        "What wraps the forward of one instance keeps the function that it found, and no patch of the class gets "
        "there: neither in training nor later.",
        "model = accelerator.prepare(model); fusegen.install()",
        "Call `fusegen.install()` first, and prepare or wrap the model then.",
    ),
    Reason(
        "FG511",
        "policy",
        "the policy says to compute the logits here (fuse='training' leaves evaluation alone)",
        "Metrics of an evaluation read the logits, which the fused branch does not compute.",
        "model.eval(); model(input_ids=ids, labels=ids)",
        "`fusegen.fused(fuse='always')` or FUSEGEN_FUSE=always, if nothing reads the logits.",
    ),
    Reason(
        "FG512",
        "head-type",
        "the head is not a plain torch.nn.Linear",
        "A module of another class may compute something else than `hidden @ weight.T + bias`.",
        "model.lm_head = LoraLinear(model.lm_head)",
        "A head of the class `torch.nn.Linear`: leave it out of what wraps or quantises the model.",
    ),
    Reason(
        "FG513",
        "head-hooks",
        "calling the head would run hooks or a replaced forward, which the fused loss would bypass",
        "The fused loss reads the head's weight and never calls the head: what a hook does would be lost.",
        "model.lm_head.register_forward_hook(log_logits)",
        "Remove the hook before training, or put it on the model.",
    ),
    Reason(
        "FG514",
        "head-weight",
        "the head's weight is not a plain floating tensor (sharded, quantised or on the meta device)",
        "The kernel reads the whole weight as it lies in memory.",
        "a head whose weight is a DTensor, or is of bitsandbytes",
        "Keep the head whole and unquantised; FSDP2 gathers it before the forward if it is a part of the root.",
    ),
    Reason(
        "FG515",
        "loss-function",
        "the model's loss_function is not the stock one",
        "A function of one's own may compute anything from the logits.",
        "model.loss_function = focal_loss",
        "The stock loss of transformers, with the arguments that it takes.",
    ),
    Reason(
        "FG516",
        "tuple",
        "a tuple was asked for (return_dict=False), whose logits have a place",
        "Positions in the tuple would move if the logits were left out.",
        "loss, logits = model(input_ids=ids, labels=ids, return_dict=False)[:2]",
        "Leave `return_dict` alone and read the fields of the output by name.",
    ),
    Reason(
        "FG517",
        "device",
        "no backend of the kernel knows the head's device",
        "A backend runs on CUDA or on the CPU; others may lack what it calls.",
        "model.to('mps')",
        "Train on one of the devices that `fusegen doctor` names.",
    ),
    Reason(
        "FG518",
        "transform",
        "a transform of torch.func or forward-mode differentiation is active, and the kernel has no rule for it",
        "A rule that is missing would be a wrong derivative.",
        "torch.func.jvp(loss_of, (weights,), (tangents,))",
        "`loss.backward()` or `torch.autograd.grad`, or the original path (FUSEGEN_FUSE=never).",
    ),
    Reason(
        "FG519",
        "passed-over",
        "a module that the fused loss passes over is not of the class that was read or has hooks or settings",
        "What stands between the hidden states and the head is computed by the branch itself, as the source shows it.",
        "model.cls.predictions.transform = MyTransform()",
        "The modules that the class makes in its `__init__`, without hooks.",
    ),
    Reason(
        "FG520",
        "condition",
        "a condition under which alone the fused loss is equal does not hold (see `where` in the forward)",
        "The original takes another way there, which the fused branch does not compute.",
        "where=lambda: self.config.pad_token_id is None",
        "The setting that the condition asks for, if it is yours to choose.",
    ),
    Reason(
        "FG521",
        "loss-body",
        "the stock loss of the installed transformers is written otherwise than the one that the fused loss "
        "computes, or cannot be read; another fusegen may know it (pip install -U fusegen)",
        "A changed loss may be another number, and would be replaced by the old one.",
        "transformers.loss.loss_utils.ForCausalLMLoss of a release that was not read yet",
        "A fusegen that knows this release.",
    ),
    Reason(
        "FG522",
        "cross-entropy",
        "torch's cross-entropy or the modeling file's `CrossEntropyLoss` was replaced, which the fused loss "
        "would bypass",
        "Who replaces a function wants it to be called.",
        "torch.nn.functional.cross_entropy = mine",
        "Put the original back before training, or keep yours and train unfused.",
    ),
    Reason(
        "FG523",
        "operand",
        "the kernel does not take a number, bias or width that stands between head and loss in this call; the loss was "
        "computed from full logits",
        "The kernel takes numbers other than 0 and infinity, a number or a tensor of one element to scale by, and one "
        "bias for each row of the head: for the rest it would raise where the original has a loss.",
        "self.cap = nn.Parameter(torch.tensor(30.0)); logits = self.cap * torch.tanh(logits / self.cap)",
        "Numbers that are fixed, if the model allows it; the line in the log names the operand.",
    ),
    Reason(
        "FG524",
        "labels",
        "the kernel takes labels of torch.int64 in a plain tensor, one for each row of hidden states; this loss was "
        "computed from full logits",
        "Labels of other kinds mean something else to torch's cross-entropy (probabilities), or are its error.",
        "model(input_ids=ids, labels=probabilities)",
        "`labels.long()`, as a whole tensor of the class `torch.Tensor`.",
    ),
    Reason(
        "FG525",
        "hidden-states",
        "the kernel takes hidden states in a plain, dense tensor that fits the head; this loss was computed from full "
        "logits",
        "Subclasses of tensors (a DTensor, a nested tensor) compute the head's product in a way of their own.",
        "with implicit_replication(): model(input_ids=distributed, labels=distributed)",
        "A hidden state that is whole and plain where the head begins.",
    ),
    Reason(
        "FG526",
        "mode",
        "a mode of torch is active that may change what it sees, which the fused loss would bypass",
        "A TorchFunctionMode or TorchDispatchMode may replace every operation, and sees none that was fused away. "
        "Those of torch that only count or watch (FlopCounterMode, MemTracker, a default device) do not refuse.",
        "with Doubled(): model(input_ids=ids, labels=ids)  # class Doubled(TorchFunctionMode)",
        "Leave the mode before the loss is computed, or use it without fusing.",
    ),
    Reason(
        "FG527",
        "failed",
        "the fused loss has raised an error",
        "The error goes on to whoever called the model: a label outside of the vocabulary, say, or too little memory.",
        "labels[0, 0] = model.config.vocab_size",
        "What the error says; `fusegen.fused(fuse='never')` shows whether the original has it too.",
    ),
    Reason(
        "FG528",
        "no-labels",
        "a training call without labels: its logits were computed, and the loss elsewhere",
        "Without labels a forward computes no loss that could be fused. The label smoother, `compute_loss_func` and "
        "the losses of some trainers take the labels away and compute theirs from the logits.",
        "TrainingArguments(label_smoothing_factor=0.1)",
        "Give the labels to the model, if its own loss is the one that you want.",
    ),
)

REASONS = {reason.code: reason for reason in _ALL}
