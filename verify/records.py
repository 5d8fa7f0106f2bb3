"""What a verification finds, as frozen records that cross from process to process."""

from __future__ import annotations

from dataclasses import dataclass

# Outcomes of a check.
SAME = "same"
RAISES = "raises"  # the original raises by itself, and the patched forward raises the same
DIFFERENT = "different"
NOT_FUSED = "not fused"  # equal, but the fused branch did not run: it proves nothing
NOT_APPLICABLE = "not applicable"
SKIPPED = "skipped"  # it applies to the class, and could not be made

# Outcomes of a class.
VERIFIED = "verified"
NOT_BUILT = "not built"
NOT_EMITTED = "not emitted"
FAILED = "failed"  # it could not be compared to the end, or cannot be built any more
UNPROVEN = "unproven"  # nothing differs, but a check was skipped, or leaving out an operation would not have shown
STALE = "stale"  # generated from another source than the installed one: there is nothing to compare it with


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of one class.

    `error` is the largest relative error that was found and `tolerance` what was allowed there; `quantity` says of
    what; `original` and `patched` are the numbers (or shapes, names, exceptions) side by side.
    """

    check: str
    outcome: str
    quantity: str = ""
    error: float | None = None
    tolerance: float | None = None
    original: str = ""
    patched: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Reach:
    """How much of a class its comparison reaches.

    Attributes:
        batch: what the batch holds: text, image, audio, ...
        trained: to how many parameter tensors the original gives a gradient other than zero in at least one check.
        parameters: how many it has.
        untrained: the outermost modules (or parameters) that get none.
        reason: why they get none, where that is known.
        refused: what the original raised on the media that it takes and its batch has to do without.
    """

    batch: tuple[str, ...] = ()
    trained: int = 0
    parameters: int = 0
    untrained: tuple[str, ...] = ()
    reason: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class ClassResult:
    """All checks of one class, and their reach.

    `reason` says why there are none, or why they prove too little; `lines` are the generated ones, if one differs.
    """

    id: str
    outcome: str
    checks: tuple[CheckResult, ...] = ()
    reach: Reach | None = None
    reason: str = ""
    lines: str = ""
    cpu_seconds: float = 0.0

    @property
    def differences(self) -> tuple[CheckResult, ...]:
        return tuple(check for check in self.checks if check.outcome == DIFFERENT)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """A run: the version of transformers that was compared with, the checks asked for, and what came of each class."""

    version: str
    checks: tuple[str, ...]
    classes: tuple[ClassResult, ...]
    wall_seconds: float = 0.0

    def count(self, outcome: str) -> int:
        return sum(each.outcome == outcome for each in self.classes)

    @property
    def failed(self) -> bool:
        """Whether a class is not verified that should be: stock transformers is not what is in the way."""
        return any(each.outcome in (DIFFERENT, FAILED, NOT_FUSED, UNPROVEN, STALE) for each in self.classes)


def class_outcome(checks: tuple[CheckResult, ...]) -> str:
    """Verified: nothing differs, and the fused branch ran wherever it should, the plain step (the first) included.

    A check that could not be made proves nothing: the class is then unproven.
    """
    outcomes = {check.outcome for check in checks}
    if DIFFERENT in outcomes:
        return DIFFERENT
    if checks[0].outcome != SAME or NOT_FUSED in outcomes:
        return NOT_FUSED
    return UNPROVEN if SKIPPED in outcomes else VERIFIED
