"""The nouns of the static half: frozen records that flow from a source tree to a report.

    SourceFile -> FileReport(sites: Site ...) -> ScanReport -> text, JSON, SARIF, ...

A `Site` is one function body that computes a cross-entropy over a vocabulary. Its verdict is `match`
(what stands between head and loss is known in full), `reject` (a code, a line and a reason say why
not) or `delegated` (the loss belongs to an inner module that gets the labels). Lines count from 1,
columns from 0, as in `ast`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA_VERSION = 1

MATCH = "match"
REJECT = "reject"
DELEGATED = "delegated"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One modeling file: its path relative to the transformers package (posix) and its bytes."""

    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Operation:
    """One step between head and loss, e.g. `soft_cap` with `{"cap": "self.config.final_logit_softcapping"}`.

    `arguments` are operands as they read in the source; `when` is the condition under which the step
    runs (None: always); `line` is where it stands.
    """

    op: str
    arguments: tuple[tuple[str, str], ...] = ()
    when: str | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """The projection to the vocabulary.

    `expression` is what the forward calls, `linear` the last linear behind it (the same for a plain
    head), `before` the modules and functions that a composite head applies first, outermost last.
    `rows` is the vocabulary size as `__init__` spells it, `bias` one of `no`, `yes`, `config`, `unknown`.
    """

    expression: str
    linear: str
    hidden: str
    rows: str | None = None
    bias: str = "unknown"
    before: tuple[str, ...] = ()
    line: int = 0


@dataclass(frozen=True, slots=True)
class VocabularyLoss:
    """One cross-entropy over a vocabulary and what stands between it and its head.

    `kind` is `causal` or `masked` (the stock losses behind `self.loss_function`) or `cross_entropy`.
    `labels` is how logits and labels meet: `shifted` (position i predicts label i+1), `aligned`,
    `preshifted` (the caller or the forward shifted them and says so), `double-shifted` (by hand, and by
    the loss again) or `flat-shifted` (by the loss, over all sequences in one row). `label_source` is what the
    labels start as, `label_value` what the forward makes of that, but for moves and views; empty where it is not
    known. `keywords` are further arguments of the loss as they read in the source.
    """

    kind: str
    call: str
    labels: str
    label_source: str
    vocab_size: str | None
    keywords: tuple[tuple[str, str], ...]
    head: Head | None
    chain: tuple[Operation, ...]
    line: int
    column: int
    label_value: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """A later use of logits or loss: `output`, `metadata` (shape, device, dtype), `loss`, `log_sum_exp`, `read`."""

    kind: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Site:
    """One function body with a vocabulary loss, and its verdict.

    `line`/`column` are those of the loss (of the call that gets the labels, when delegated); `code`,
    `reason`, `excerpt` and `at_line` say why and where a site is refused. `guards` are conditions that
    must hold at run time for the fused path to be taken. `parameters` are those of the function, as they
    read without annotations.
    """

    id: str
    model: str
    file: str
    class_name: str
    method: str
    line: int
    column: int
    verdict: str
    losses: tuple[VocabularyLoss, ...] = ()
    guards: tuple[str, ...] = ()
    uses: tuple[Use, ...] = ()
    code: str | None = None
    reason: str | None = None
    excerpt: str | None = None
    at_line: int | None = None
    at_column: int | None = None
    delegated_to: str | None = None
    def_line: int = 0
    parameters: tuple[str, ...] = ()

    @property
    def primary(self) -> VocabularyLoss | None:
        """The loss that the site is listed under: the first with a known head, else the first."""
        return next((loss for loss in self.losses if loss.head), self.losses[0] if self.losses else None)

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of the operations of the primary loss, in order; `soft_cap?` where it is conditional."""
        primary = self.primary
        return tuple(step.op + ("?" if step.when else "") for step in primary.chain) if primary else ()


@dataclass(frozen=True, slots=True)
class Aside:
    """A function that has a loss or hands labels on and is no site, with the reason why not."""

    function: str
    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that could not be read or, with `internal`, a bug in fusegen: never silent."""

    file: str
    line: int
    message: str
    internal: bool = False


@dataclass(frozen=True, slots=True)
class FileReport:
    """What one modeling file yields.

    `mentions_labels`: the file speaks of labels or a loss at all. `classes` are all that its text defines. `hidden`
    counts the sites that are left out of the report.
    """

    path: str
    sites: tuple[Site, ...] = ()
    asides: tuple[Aside, ...] = ()
    failures: tuple[Failure, ...] = ()
    mentions_labels: bool = False
    classes: tuple[str, ...] = ()
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class ScanReport:
    """Every file of a tree in path order, and where the tree came from (`package`, `version`).

    `complete` is False where only some models or sites of the tree are in it.
    """

    package: str
    version: str | None
    files: tuple[FileReport, ...] = field(default=())
    complete: bool = True

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(site for file in self.files for site in file.sites)

    @property
    def hidden(self) -> int:
        """How many sites are left out."""
        return sum(file.hidden for file in self.files)

    @property
    def failures(self) -> tuple[Failure, ...]:
        return tuple(failure for file in self.files for failure in file.failures)

    @property
    def ends_early(self) -> bool:
        """Whether models may be missing of which nothing is known, as in an archive that was cut off."""
        return any(failure.file == "models" for failure in self.failures)

    @property
    def unknown_folders(self) -> tuple[str, ...]:
        """The folders of models, and links to some, of whose models nothing is known."""
        files = dict.fromkeys(failure.file for failure in self.failures)
        return tuple(file for file in files if file.startswith("models/") and not file.endswith(".py"))

    @property
    def models(self) -> frozenset[str]:
        """The model folders with a file in it; a folder or a link that could not be read is in `files`, and is none."""
        return frozenset(
            model_of(file.path) for file in self.files if file.path.startswith("models/") and file.path.endswith(".py")
        )

    def count(self, verdict: str) -> int:
        return sum(site.verdict == verdict for site in self.sites)


def model_of(path: str) -> str:
    """The model folder of a file: `llama` of `models/llama/modeling_llama.py`; the whole path of any other."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else path


def to_json(record: Any) -> dict[str, Any]:
    """A record as plain JSON data."""
    return asdict(record)


def file_report_from_json(data: dict[str, Any]) -> FileReport:
    """The inverse of `to_json` for a `FileReport` (what the cache holds)."""
    return FileReport(
        path=data["path"],
        sites=tuple(_site(site) for site in data["sites"]),
        asides=tuple(Aside(**aside) for aside in data["asides"]),
        failures=tuple(Failure(**failure) for failure in data["failures"]),
        mentions_labels=data["mentions_labels"],
        classes=tuple(data["classes"]),
    )


def _site(data: dict[str, Any]) -> Site:
    return Site(
        **data
        | {
            "losses": tuple(_loss(loss) for loss in data["losses"]),
            "guards": tuple(data["guards"]),
            "uses": tuple(Use(**use) for use in data["uses"]),
            "parameters": tuple(data["parameters"]),
        }
    )


def _loss(data: dict[str, Any]) -> VocabularyLoss:
    head = data["head"]
    return VocabularyLoss(
        **data
        | {
            "keywords": _pairs(data["keywords"]),
            "head": Head(**head | {"before": tuple(head["before"])}) if head else None,
            "chain": tuple(Operation(**step | {"arguments": _pairs(step["arguments"])}) for step in data["chain"]),
        }
    )


def _pairs(data: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in data)
