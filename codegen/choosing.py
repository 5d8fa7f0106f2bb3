"""Which functions of a file may compute a loss or hand labels on, by their text: half of all need no walk.

Whatever may be a cross-entropy is walked: its name decides, or that of what it gets, never that of the class.
"""

from __future__ import annotations

import re
from functools import cached_property, lru_cache

from fusegen.codegen.index import FileIndex, FunctionBlock

LOSS_MARKS = ("CrossEntropyLoss", "cross_entropy", "loss_function(", "nll_loss(")

_LOSSES = ("cross_entropy", "CrossEntropyLoss", "nll_loss")

# Without one of these a file has nothing to say of labels or of a loss.
_WORDS = ("labels", "loss", "Loss", "ntropy", "riterion", "log_softmax", "logsumexp")
# A file without one of these is not listed where it has no site.
_MENTIONED = ("labels", "loss")

# Labels as an argument of a call: `labels=labels`, `f(logits, labels)`, `f(logits, targets)`.
_HANDED = re.compile(r"(?:labels|targets?)=(?!None\b)|[(,]\s*(?:\w+_)?(?:labels|targets?)\s*[,)]")
_LOSS_CALL = re.compile(r"(?:[Ll]oss|ntropy|riterion|nll|(?<![A-Za-z])(?:ce|CE)(?![A-Za-z]))\w*(?=[ \t]*\()")
_LOSS_PARTS = ("oss", "ntropy", "riterion", "nll", "ce", "CE")
# A cross-entropy that is written by hand takes the log-probability of each label.
_LOGARITHMS = ("log_softmax", "logsumexp")
# Each begins with a literal, which `re` finds many times faster than a word's start.
_RENAMED = tuple(re.compile(rf"{name}[ \t]+as[ \t]+(\w+)") for name in _LOSSES)
_ASSIGNED = tuple(re.compile(rf"{name}\b(?![ \t]*\()") for name in _LOSSES)
_TO_A_NAME = re.compile(r"[ \t]*(\w+)[ \t]*=[ \t]*[\w.]*$")
# So many characters hold the bases of a class.
_HEADER = 300
_CRITERION = re.compile(r"\bself\.(\w+)[ \t]*=[^=\n][^\n]*CrossEntropyLoss")
_NESTED_FORWARD = re.compile(r"\n[ \t]+(?:async[ \t]+)?def[ \t]+forward\b")
_CLASSIFIER = re.compile(r"For\w*(Classification|QuestionAnswering|MultipleChoice|NextSentence|Segmentation|Detection)")

NO_LOSS = "labels are mentioned, and no loss is computed or handed on here"


def has_nothing(text: str) -> bool:
    """Whether a file speaks neither of labels nor of a loss."""
    return not any(word in text for word in _WORDS)


def mentions_labels(text: str) -> bool:
    """Whether a file speaks of labels or a loss in these words."""
    return any(word in text for word in _MENTIONED)


@lru_cache(maxsize=2)
def other_names(text: str) -> frozenset[str]:
    """Other names that a file gives to a cross-entropy: `ce` of `ce = F.cross_entropy`."""
    names = {name for pattern in _RENAMED for name in pattern.findall(text)}
    for pattern in _ASSIGNED:
        for found in pattern.finditer(text):
            target = _TO_A_NAME.match(text[text.rfind("\n", 0, found.start()) + 1 : found.start()])
            if target is not None:
                names.add(target.group(1))
    return frozenset(names)


class Choice:
    """The functions of one file that are worth a look."""

    def __init__(self, index: FileIndex) -> None:
        self.index = index
        classes = (block for block in index.classes.values() if "CrossEntropyLoss" in block.text)
        inits = {block.name: block.methods.get("__init__") for block in classes}
        self.criteria = {name: init.text for name, init in inits.items() if init and "CrossEntropyLoss" in init.text}
        self.marks = (*LOSS_MARKS, *(f"{name}(" for name in sorted(other_names(index.text))))

    def functions(self) -> list[FunctionBlock]:
        """Those that can hold a loss or hand labels to one. Raises `SyntaxError` where one is cut in a wrong place."""
        chosen = [function for function in self.index.functions.values() if self._has_mark(function.text)]
        for block in self.index.classes.values():
            methods = block.methods.values()
            for method in methods:
                if method.name != "forward" and "def forward" in method.text and _NESTED_FORWARD.search(method.text):
                    _ = method.node  # A definition under a condition ends up in the text of the method before it.
            chosen += (method for method in methods if method.name != "__init__" and self._is_worth_a_look(method))
        return chosen

    def _is_worth_a_look(self, method: FunctionBlock) -> bool:
        text = method.text
        if self._has_mark(text) or self._calls_criterion(method):
            return True
        if _is_by_hand(text):
            return True
        if method.name != "forward":
            return False
        if "labels" in text and ("loss" in text or "labels=" in text or self._has_criterion(method)):
            return True
        named = "labels" in text or "target" in text
        if not named and not self._has_vocabulary(method):
            return False
        handed = named and _HANDED.search(text) is not None
        if self._has_vocabulary(method):
            return handed or _calls_a_loss(text)
        return handed and _calls_a_loss(text)

    def why_not(self, block: FunctionBlock) -> str | None:
        """Why a function is no site, where its text alone shows it."""
        text = block.text
        if any(text.count(opening) != text.count(closing) for opening, closing in ("()", "[]", "{}")):
            return None  # perhaps cut in a wrong place: parsing it tells
        if self._has_mark(text):
            if block.owner and _CLASSIFIER.search(block.owner) and "vocab" not in text:
                return "the class is a classifier and no vocabulary is in its text"
        elif not (_is_by_hand(text) or _HANDED.search(text) or _calls_a_loss(text) or self._has_criterion(block)):
            return NO_LOSS
        return None

    def _has_vocabulary(self, method: FunctionBlock) -> bool:
        return method.owner in self._with_vocabulary

    @cached_property
    def _with_vocabulary(self) -> set[str]:
        """The classes that speak of a vocabulary, and those that name one of them where they begin."""
        if "vocab" not in self.index.text:
            return set()
        found = {name for name, block in self.index.classes.items() if "vocab" in block.text}
        new = found
        while new:
            rest = [block for name, block in self.index.classes.items() if name not in found]
            new = {block.name for block in rest if any(name in block.text[:_HEADER] for name in new)}
            found = found | new
        return found

    def _has_mark(self, text: str) -> bool:
        return any(mark in text for mark in self.marks)

    def _has_criterion(self, block: FunctionBlock) -> bool:
        return bool(self._inits(block))

    def _calls_criterion(self, block: FunctionBlock) -> bool:
        """Whether a method calls what `__init__` keeps as a criterion: `self.loss_fn(logits, y)`."""
        names = {name for text in self._inits(block) for name in _CRITERION.findall(text)}
        return any(re.search(rf"\bself\.{name}[ \t]*[(\[]", block.text) for name in names)

    def _inits(self, block: FunctionBlock) -> list[str]:
        if block.owner is None or not self.criteria:
            return []
        return [self.criteria[each.name] for each in self.index.mro(block.owner) if each.name in self.criteria]


def _is_by_hand(text: str) -> bool:
    return "gather(" in text and any(name in text for name in _LOGARITHMS)


def _calls_a_loss(text: str) -> bool:
    return any(part in text for part in _LOSS_PARTS) and _LOSS_CALL.search(text) is not None
