"""Whether a cross-entropy runs over a vocabulary: by the rows of its head, the width it views, or its class."""

from __future__ import annotations

import re

from fusegen.codegen.chain import Chain
from fusegen.codegen.logit_ops.step import Refusal
from fusegen.codegen.losses import Loss
from fusegen.codegen.members import InFile, Linear, Member, Plain
from fusegen.codegen.reading import Reading
from fusegen.codegen.values import (
    Attr,
    Binary,
    Call,
    Const,
    Global,
    Index,
    Opaque,
    Param,
    Select,
    Self,
    Sequence,
    Unary,
    Value,
    describe,
)

_VOCABULARY = re.compile(r"vocab|n_words|codebook_size|n_?tokens?\b|num_tokens|^\d{4,}$")


LANGUAGE_MODEL = re.compile(
    r"LMHead|ForCausalLM|ForMaskedLM|ForConditionalGeneration|ForPreTraining|DoubleHeads|LMModel|CausalModel"
)


CLASSIFIER = re.compile(
    r"Classification|ForQuestionAnswering|MultipleChoice|NextSentence|ForCTC|Detection|Segmentation|XVector|Contrastive"
)


_SIZE = re.compile(r"[A-Za-z_][\w.]*")

# Names of what is counted in classes: a head with so many rows is a classifier, whatever its class is called.
_COUNTED = re.compile(r"label|class|categor|answer|bins?\b|^\d+$")


def is_language_model(reading: Reading) -> bool:
    """Whether a class is one by its name, or by a linear of its own with a vocabulary of rows."""
    owner = reading.owner or ""
    if CLASSIFIER.search(owner):
        return False
    return LANGUAGE_MODEL.search(owner) is not None or any(
        isinstance(member, Linear | InFile | Plain) and _made_over_vocabulary(member, reading)
        for members in (reading.scope.members(owner).values() if owner in reading.scope.index.classes else ())
        for member in members
    )


def _made_over_vocabulary(member: Member, reading: Reading) -> bool:
    """Whether a module that is no embedding is made with the size of a vocabulary as its last number."""
    match member:
        case Linear(rows):
            return rows is not None and _VOCABULARY.search(reading.expand(rows)) is not None
        case Plain(Call(Global("torch.nn.Sequential"), (*_, Call() as last))):
            return _made_over_vocabulary(Plain(last), reading)
        case InFile(_, made) | Plain(Call(Global()) as made):
            name = made.func.path if isinstance(made.func, Global) else ""
            sizes = [
                value for value in (*made.args, *(item for _, item in made.keywords)) if isinstance(value, Attr | Param)
            ]
            return (
                "mbedding" not in name
                and bool(sizes[1:])
                and any(_VOCABULARY.search(reading.expand(size)) for size in sizes)
            )
    return False


def _comes_from_vocabulary(logits: Value, reading: Reading) -> bool:
    """Whether the nearest module that logits come from is made with the size of a vocabulary."""
    match logits:
        case Call(Attr() as place) if members := reading.scope.at(reading.owner or "", place):
            return any(_made_over_vocabulary(member, reading) for member in members)
        case Call(Attr(base, _)) if not isinstance(base, Self):
            return _comes_from_vocabulary(base, reading)
        case Call(Global(path), (first, *_)) if path.startswith("torch."):
            return _comes_from_vocabulary(first, reading)
        case Binary(_, left, right):
            return _comes_from_vocabulary(left, reading) or _comes_from_vocabulary(right, reading)
        case Index(base, _) | Unary(_, base):
            return _comes_from_vocabulary(base, reading)
        case Opaque(_, _, parts) | Sequence(_, parts):
            return any(_comes_from_vocabulary(part, reading) for part in parts)
        case Call(Global("zip" | "enumerate" | "range" | "reversed"), parts):
            return any(_comes_from_vocabulary(part, reading) for part in parts)
        case Select(_, then, other):
            return _comes_from_vocabulary(then, reading) or _comes_from_vocabulary(other, reading)
    return False


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
        if rows and _COUNTED.search(rows):
            return f"the head has {rows} rows, which is no vocabulary"
        if rows and not _may_be_one(rows, reading):
            return f"the head has {rows} rows, which are not shown to be a vocabulary"
        if rows:
            return None
        return _classes(widths[0]) if widths else None
    width = spelled_width(loss.logits, reading)
    if width is not None:
        return None if _VOCABULARY.search(width) or _may_be_one(width, reading) else _classes(width)
    if isinstance(loss.labels, Call) and loss.labels.func == Global("torch.arange"):
        return "the labels are positions in the batch (a contrastive loss)"
    owner = reading.owner or ""
    if chain.code == "FG206" and function != "forward" and LANGUAGE_MODEL.search(owner):
        return None
    if LANGUAGE_MODEL.search(owner) and not CLASSIFIER.search(owner) and chain.code not in ("FG206", "FG101"):
        return None
    if LANGUAGE_MODEL.search(owner) and not CLASSIFIER.search(owner) and "label" in describe(loss.labels):
        return None
    if not CLASSIFIER.search(owner) and _comes_from_vocabulary(loss.logits, reading):
        return None
    return "nothing shows that the loss runs over a vocabulary"


def _may_be_one(width: str, reading: Reading) -> bool:
    """Whether a size that is not called one may be a vocabulary: that of a language model, by its class."""
    named = _SIZE.fullmatch(width) is not None and _COUNTED.search(width) is None
    return named and LANGUAGE_MODEL.search(reading.owner or "") is not None


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
