"""What a report on a verification says, in each format."""

from __future__ import annotations

from fusegen.verify.records import RAISES, SAME, STALE, VERIFIED, CheckResult, ClassResult, VerifyReport
from fusegen.verify.rendering import render


def test_markdown_is_a_table_of_classes_and_checks_with_the_numbers() -> None:
    plain, tuples = (
        CheckResult(name, SAME, "loss", error, 1e-5) for name, error in (("plain", 2.6e-7), ("tuple", 0.0))
    )
    checks = plain, tuples, CheckResult("uncut labels", RAISES, "exception")
    report = VerifyReport("5.23.0", ("plain", "tuple", "bf16", "uncut labels"), (ClassResult("a.A", VERIFIED, checks),))
    lines = render(report, "markdown").splitlines()
    assert "| class | batch | trained | plain | tuple | bf16 | uncut labels |" in lines
    assert "| a.A |  | 0 of 0 | ✓ 3e-07 | ✓ 0 | – | raises |" in lines


def test_a_whole_tree_of_another_release_is_one_line_unless_all_are_asked_for() -> None:
    classes = tuple(ClassResult(f"a.A{number}", STALE, reason="written from 5.17.0") for number in range(300))
    report = VerifyReport("5.23.0", ("plain",), classes)
    assert render(report, "full") == (
        "transformers 5.23.0, 300 classes: 300 stale\n\nstale\n  300 classes written from 5.17.0\n"
    )
    assert render(report, "full", verbosity=1).count("written from 5.17.0") == 300
