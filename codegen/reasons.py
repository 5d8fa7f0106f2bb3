"""Every reason for which a site is refused: a stable code, what it means, the smallest example, the way out."""

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
        "FG101",
        "head-not-linear",
        "the head is not shown to be a linear",
        "Only `hidden @ weight.T (+ bias)` folds into the loss; this file does not show what the module computes.",
        "logits = self.adaptive_softmax(hidden_states)",
        "A head whose class stands in the same file and ends in one `nn.Linear`.",
    ),
    Reason(
        "FG102",
        "inner-model-logits",
        "the logits come from an inner model that has the head",
        "The hidden states never leave the inner model, so there is nothing to multiply here.",
        "outputs = self.language_model(...); logits = outputs.logits",
        "Call the inner model's body and head apart, or hand the labels down to it.",
    ),
    Reason(
        "FG103",
        "head-per-position",
        "the head is a stack of weights chosen by position",
        "Each position has a matrix of its own; one fused call has one matrix.",
        "logits = torch.matmul(x[:, :, None, :], selected_weights)",
        "One fused call per codebook over that codebook's positions.",
    ),
    Reason(
        "FG104",
        "logits-reshaped",
        "the logits get another shape than one row per label",
        "After a cut or a turn, the columns that one softmax runs over are no longer the rows of the head.",
        "logits = self.head(h).view(batch, -1, channels, vocab_size).transpose(1, 2)",
        "One fused call per codebook over that codebook's rows of the head.",
    ),
    Reason(
        "FG105",
        "head-depends-on-data",
        "which head is used depends on a condition that cannot be checked beforehand",
        "The two branches have different heads, and the condition reads tensors.",
        "logits = self.a(h) if h.mean() > 0 else self.b(h)",
        "A condition on the configuration or on arguments.",
    ),
    Reason(
        "FG201",
        "unknown-operation",
        "an operation between head and loss that has no name in the kernel",
        "Fusing without it would compute another loss.",
        "logits = self.dropout(self.lm_head(h))",
        "A file in codegen/logit_ops and the same operation in the kernel.",
    ),
    Reason(
        "FG202",
        "operand-of-unknown-shape",
        "an operand that is shown to be neither one number nor one entry per vocabulary row",
        "A scale by a vector is not a scale; a bias of another shape is not a bias.",
        "logits = logits * self.weights",
        "An operand from the configuration, or a parameter whose shape `__init__` spells.",
    ),
    Reason(
        "FG203",
        "logits-edited-in-place",
        "entries of the logits are overwritten before the loss",
        "The kernel has no mask over vocabulary columns; without it other columns take part in the softmax.",
        "logits[:, :, image_tokens] = torch.finfo(logits.dtype).min",
        "A column mask in the kernel.",
    ),
    Reason(
        "FG204",
        "control-flow",
        "the logits pass through a loop, `with` or `try` that the walk does not follow",
        "What happens to them there is not known.",
        "for i in range(n): logits = step(logits)",
        "Straight-line code between head and loss.",
    ),
    Reason(
        "FG205",
        "two-chains",
        "two branches treat the logits differently",
        "One call has one chain of operations.",
        "logits = logits * a if flag else logits + b",
        "The same operations in both branches, or one branch that leaves the logits as they are.",
    ),
    Reason(
        "FG206",
        "logits-from-elsewhere",
        "what the loss reads does not come from a head in this function",
        "There is no product to fuse with.",
        "loss = loss_fct(scores, labels)  # scores is an argument",
        "The head and the loss in one function.",
    ),
    Reason(
        "FG207",
        "attribute-set-here",
        "an attribute that head, chain or loss reads is set in the same function",
        "What it holds when the fused call reads it may differ from what the original read.",
        "self.loss_fct.ignore_index = 0; loss = self.loss_fct(logits, labels)",
        "Set it in `__init__`, or pass the value as an argument.",
    ),
    Reason(
        "FG208",
        "criterion-handed-on",
        "the criterion is used for more than its call",
        "A hook, another setting or somebody who holds it may make it compute another loss than it was made for.",
        "loss_fct = CrossEntropyLoss(); loss_fct.register_forward_hook(double); loss = loss_fct(logits, labels)",
        "Arguments of the criterion where it is made.",
    ),
    Reason(
        "FG301",
        "loss-in-a-loop",
        "the loss is computed in a loop",
        "One call per turn of the loop, over slices of logits that were computed before it.",
        "for i in range(n): loss += loss_fct(logits[:, i], labels[:, i])",
        "One fused call per codebook with that codebook's head.",
    ),
    Reason(
        "FG302",
        "unknown-loss",
        "the loss is not one of the stock losses",
        "Its arguments and its reduction are not known.",
        "self.loss_function = MyLoss()",
        "A stock loss, or a reader for this one in codegen/losses.py.",
    ),
    Reason(
        "FG303",
        "alignment",
        "how labels and logits meet is not shown by the source",
        "A shift by one too many or too few is a wrong loss that still goes down.",
        "loss = loss_fct(logits[:, 2:].reshape(-1, V), labels[:, 1:].reshape(-1))",
        "Logits and labels cut alike, or the last of one and the first of the other dropped.",
    ),
    Reason(
        "FG304",
        "log-probabilities-read",
        "the log-probabilities are used for more than the loss of the labels",
        "A second term (a smoothing written by hand) reads every column.",
        "lprobs = log_softmax(logits); loss = nll_loss(lprobs, y) + eps * lprobs.sum(-1)",
        "The loss's own `label_smoothing`.",
    ),
    Reason(
        "FG305",
        "loss-argument",
        "an argument of the loss that the kernel does not take",
        "Dropping it would change the loss in silence.",
        "CrossEntropyLoss(reduce=False)",
        "A keyword of the kernel with the same meaning.",
    ),
    Reason(
        "FG306",
        "loss-shape",
        "the loss does not get one row of logits per label",
        "The kernel reduces over the last dimension of the head's output.",
        "loss_fct(logits, labels)  # (batch, sequence, vocabulary)",
        "`logits.view(-1, vocab_size)` and `labels.view(-1)`.",
    ),
    Reason(
        "FG401",
        "logits-read-after-the-loss",
        "the logits are read again for something else than the output",
        "Without logits that value cannot be computed.",
        "z_loss = logits.logsumexp(-1).pow(2).mean()",
        "A quantity that the kernel returns (log-sum-exp, entropy, predicted id), or one use less.",
    ),
    Reason(
        "FG402",
        "logits-escape",
        "the logits are handed to a function that is not known",
        "It may read them, keep them or change them in place.",
        "self.log(logits)",
        "A function of the same file that can be followed.",
    ),
    Reason(
        "FG403",
        "logits-stored",
        "the logits are kept on an object",
        "Somebody may read them later.",
        "self.last_logits = logits",
        "Read them from the output instead.",
    ),
    Reason(
        "FG404",
        "logits-tested",
        "a condition reads the logits",
        "Control flow depends on values that would not exist.",
        "if logits.isnan().any(): ...",
        "A condition on shapes, or on what the kernel returns.",
    ),
    Reason(
        "FG601",
        "not-one-run",
        "matched; not emitted yet: head and loss are not one run of plain statements",
        "The edit is one branch before one run of statements; this forward needs more than that.",
        "loss = self.loss_function(...) if labels is not None else None",
        "The head call, then an `if` with the loss, in one block, under a condition that the call can answer.",
    ),
    Reason(
        "FG602",
        "logits-needed-after",
        "matched; not emitted yet: a name that comes from the logits is needed after the loss",
        "In the fused branch the logits are None; only a field of the output or an item of a tuple may hold that.",
        "return Out(loss=loss, logits=logits.float())",
        "Hand the logits to the output as they are.",
    ),
    Reason(
        "FG603",
        "composite-head",
        "matched; not emitted yet: the head cannot be taken apart",
        "What the head computes before its last product is computed in the fused branch as well, and nothing else of "
        "it may be lost: no stores, no checks, no method that a subclass may have of its own.",
        "self.calls += 1; return self.decoder(self.transform(hidden_states))",
        "A module whose forward is plain calls of its parts.",
    ),
    Reason(
        "FG604",
        "call-not-expressible",
        "matched; not emitted yet: the fused call cannot be written with the adapters there are",
        "Another order of operations than the kernel's, or an operand or choice of rows without a faithful text.",
        "logits = soft_cap(logits) * self.scale",
        "A keyword of the adapter with the same meaning.",
    ),
    Reason(
        "FG605",
        "several-losses",
        "matched; not emitted yet: several losses over vocabularies that are in each other's way",
        "Each head gets a branch of its own; their statements must not overlap.",
        "a = self.a(h); b = self.b(h); loss_a = ...; loss_b = ...",
        "One head and its loss after the other.",
    ),
    Reason(
        "FG606",
        "condition-not-askable",
        "matched; not emitted yet: a condition of the match cannot be asked where the fused branch begins",
        "The branch is taken before its head runs. A condition that the original reads elsewhere must mean the same "
        "there: no name in it is bound again and no attribute in it is stored in between.",
        "capped = self.cap is not None; self.cap = None; logits = self.lm_head(h); if capped: ...",
        "A condition on arguments and attributes that the function leaves alone, or on a local name.",
    ),
    Reason(
        "FG608",
        "edit-failed",
        "matched; not emitted: writing the fused branch failed, which is a bug in fusegen",
        "The function is left as it is; the other forwards of its file are written.",
        "an edit that is no Python",
        "Report it with the forward; the failure of the file says more.",
    ),
    Reason(
        "FG609",
        "state-may-change",
        "matched; not emitted yet: something may change between where the original and where the fused call reads it",
        "The fused branch multiplies with the head where the original computes its loss. Whatever stands in between "
        "and is not known to be harmless may change the head's weight, the hidden states, an operand, a criterion or "
        "a mode of torch.",
        "logits = self.lm_head(h) * self.scale; self.step(); loss = loss_fct(logits.view(-1, V), labels.view(-1))",
        "The statement before the head or after the loss, or a function of the same file that can be followed.",
    ),
    Reason(
        "FG610",
        "changed-after-the-loss",
        "matched; not emitted yet: the head's weight or the hidden states are changed in place after the loss",
        "The original's backward reads both as they are then; the fused call may have computed the gradient before.",
        "loss = self.loss_function(...); self.lm_head.weight.data.mul_(0.5)",
        "The change after backward, by whoever trains the model.",
    ),
)

REASONS = {reason.code: reason for reason in _ALL}
