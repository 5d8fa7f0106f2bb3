"""Whether a cross-entropy runs over a vocabulary: by the rows of its head, the width it views, or its class."""

from __future__ import annotations

import re

from fusegen.codegen.chain import Chain
from fusegen.codegen.logit_ops.step import Refusal
from fusegen.codegen.losses import Loss
from fusegen.codegen.reading import Reading
from fusegen.codegen.values import Attr, Call, Const, Global, Index, Value, describe

_VOCABULARY = re.compile(r"vocab|n_words|codebook_size|n_tokens")


LANGUAGE_MODEL = re.compile(
    r"LMHead|ForCausalLM|ForMaskedLM|ForConditionalGeneration|ForPreTraining|DoubleHeads|LMModel|CausalModel"
)


CLASSIFIER = re.compile(
    r"Classification|ForQuestionAnswering|MultipleChoice|NextSentence|ForCTC|Detection|Segmentation|XVector|Contrastive"
)


def is_over_vocabulary(chain: Chain | Refusal, reading: Reading) -> bool:
    """Whether the head's rows are a vocabulary by their name."""
    rows = chain.head.rows if isinstance(chain, Chain) else None
    return rows is not None and _VOCABULARY.search(reading.expand(rows)) is not None


def other_vocabulary(loss: Loss, chain: Chain | Refusal, reading: Reading, function: str) -> str | None:
    """Why the columns that a loss runs over are no vocabulary; None if they are, or if that is in doubt."""
    if loss.kind != "cross_entropy":
        return None
    if isinstance(chain, Chain):
        rows = reading.expand(chain.head.rows) if chain.head.rows is not None else ""
        widths = [
            reading.expand(step.width) for step in chain.steps if step.width is not None and not own_width(step.width)
        ]
        if any(_VOCABULARY.search(text) for text in (rows, *widths)):
            return None
        if rows:
            return f"the head has {rows} rows, which is no vocabulary"
        return _classes(widths[0]) if widths else None
    width = spelled_width(loss.logits, reading)
    if width is not None:
        return None if _VOCABULARY.search(width) else _classes(width)
    if isinstance(loss.labels, Call) and loss.labels.func == Global("torch.arange"):
        return "the labels are positions in the batch (a contrastive loss)"
    owner = reading.owner or ""
    if chain.code == "FG206" and function != "forward" and LANGUAGE_MODEL.search(owner):
        return None
    if LANGUAGE_MODEL.search(owner) and not CLASSIFIER.search(owner) and chain.code not in ("FG206", "FG101"):
        return None
    if LANGUAGE_MODEL.search(owner) and not CLASSIFIER.search(owner) and "label" in describe(loss.labels):
        return None
    return "nothing shows that the loss runs over a vocabulary"


def _classes(width: str) -> str:
    return f"the loss runs over {width} classes" if len(width) < 40 else "the loss runs over classes of another kind"


def spelled_width(logits: Value, reading: Reading) -> str | None:
    """The last dimension that a view of the logits spells, as far down as it is not their own."""
    match logits:
        case Call(Attr(base, "view" | "reshape"), (*_, width), ()):
            return reading.expand(width) if not own_width(width) else spelled_width(base, reading)
        case Call(Attr(base, "float" | "contiguous" | "to"), _, _) | Index(base, _):
            return spelled_width(base, reading)
    return None


def own_width(width: Value) -> bool:
    """`logits.size(-1)` and `logits.shape[-1]`: the head's own width."""
    match width:
        case Const(-1) | Call(Attr(_, "size"), (Const(-1 | 2),)) | Index(Attr(_, "shape"), Const(-1 | 2)):
            return True
    return False
