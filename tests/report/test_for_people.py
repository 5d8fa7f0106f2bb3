from __future__ import annotations

import re
from dataclasses import replace

import pytest

from fusegen.codegen.records import ScanReport, Site
from fusegen.codegen.report import FORMATS, Presentation, renderer
from fusegen.codegen.report.site import render_site


def test_concise_has_one_line_a_site_in_file_order(report: ScanReport, plain: Presentation) -> None:
    assert renderer("concise")(report, plain).splitlines() == [
        "models/chameleon/modeling_chameleon.py:1067:9: FG203 chameleon.ChameleonForCausalLM.forward  "
        "entries of the logits are overwritten before the loss: `a | b`, 100%",
        "models/cohere/modeling_cohere.py:480:13: match cohere.CohereForCausalLM.forward  "
        "self.lm_head > scale > soft_cap? > causal(shifted)",
        "models/csm/modeling_csm.py:90:13: match csm.CsmForCausalLM.forward  self.lm_head > causal(shifted)  (+1 more)",
        "models/llama/modeling_llama.py:472:13: match llama.LlamaForCausalLM.forward  self.lm_head > causal(shifted)",
        "models/llava/modeling_llava.py:33:13: delegated llava.LlavaForCausalLM.forward  to self.language_model",
    ]


def test_full_counts_verdicts_operations_and_chains(report: ScanReport, plain: Presentation) -> None:
    text = renderer("full")(report, plain)
    assert text.startswith("transformers 5.23.0: 5 sites in 8 modeling files\n")
    assert re.search(r"^  match +3 +60\.0 %$", text, re.MULTILINE)
    assert re.search(r"^  reject +1 +20\.0 %$", text, re.MULTILINE)
    assert re.search(r"^ +1  soft_cap\?$", text, re.MULTILINE)
    assert re.search(r"^ +2  causal\(shifted\)$", text, re.MULTILINE)
    assert re.search(r"^ +1  scale > soft_cap\? > causal\(shifted\)$", text, re.MULTILINE)


def test_full_shows_a_rejection_with_place_reason_source_and_way_out(report: ScanReport, plain: Presentation) -> None:
    text = renderer("full")(report, plain)
    section = text[text.index("FG203") :].split("\n\n")[0].splitlines()
    assert "(1 site)" in section[0]
    assert section[1] == "  models/chameleon/modeling_chameleon.py:1067:9  chameleon.ChameleonForCausalLM.forward"
    assert section[2] == "    `a | b`, 100%"
    assert section[3] == "    | logits[:, :, image_tokens] = lowest"
    assert "fusegen rule FG203" in section[4]


def test_full_counts_silent_files_and_lists_them_with_v(report: ScanReport, plain: Presentation) -> None:
    counted = renderer("full")(report, plain)
    assert "2 files" in counted
    assert "the loss runs over classes" in counted
    assert "modeling_vit" not in counted
    listed = renderer("full")(report, replace(plain, verbosity=1))
    assert "models/vit/modeling_vit.py:70  ViTForImageClassification.forward: the loss runs over classes" in listed
    assert "models/whale/modeling_whale.py  no function was found that computes a loss" in listed
    assert "llava.LlavaForCausalLM.forward  to self.language_model" in listed
    assert "zoo" not in listed


def test_full_has_colours_only_when_asked(report: ScanReport, plain: Presentation) -> None:
    coloured = renderer("full")(report, replace(plain, color=True))
    assert "\x1b[31mFG203\x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == renderer("full")(report, plain)


@pytest.mark.parametrize("name", ["full", "html", "markdown", "github", "json", "sarif"])
def test_what_could_not_be_read_is_never_silent(name: str, broken: ScanReport, plain: Presentation) -> None:
    text = renderer(name)(broken, plain)
    assert "models/a/modeling_a.py" in text
    assert "KeyError" in text


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_a_function_of_the_report(name: str, report: ScanReport, plain: Presentation) -> None:
    shuffled = replace(report, files=tuple(replace(file, sites=file.sites[::-1]) for file in report.files))
    text = renderer(name)(report, plain)
    assert renderer(name)(shuffled, plain) == text
    assert text.endswith("\n")
    assert "\r" not in text


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_can_say_that_there_is_nothing(name: str, empty: ScanReport, plain: Presentation) -> None:
    text = renderer(name)(empty, plain)
    assert text == "" or text.endswith("\n")


def test_markdown_escapes_what_would_break_a_table(report: ScanReport, plain: Presentation) -> None:
    text = renderer("markdown")(report, plain)
    (row,) = [line for line in text.splitlines() if line.startswith("| FG203")]
    assert row.endswith(r"| entries of the logits are overwritten before the loss: `a \| b`, 100% |")
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    assert "| `scale > soft_cap? > causal(shifted)` |" in text


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("x_y *z* <b> & [l](u) | \\", r"x\_y \*z\* &lt;b&gt; &amp; \[l\](u) \| \\"),
        ("one ` only", r"one \` only"),
        ("two\nlines", r"two\\nlines"),
    ],
)
def test_markdown_reads_nothing_in_a_reason_as_markup(
    reason: str, expected: str, sites: dict[str, Site], report: ScanReport, plain: Presentation
) -> None:
    file = replace(report.files[0], sites=(replace(sites["reject"], reason=reason),))
    text = renderer("markdown")(replace(report, files=(file,)), plain)
    (row,) = [line for line in text.splitlines() if line.startswith("| FG203")]
    assert row.endswith(f"| {expected} |")


def test_github_escapes_messages_and_properties(
    sites: dict[str, Site], report: ScanReport, broken: ScanReport, plain: Presentation
) -> None:
    odd = replace(sites["reject"], file="models/a,b:c/modeling_x.py", reason="100%\nof them")
    (line,) = renderer("github")(
        replace(report, files=(replace(report.files[0], sites=(odd,)),)), replace(plain, prefix="src/transformers/")
    ).splitlines()
    assert line == (
        "::warning file=src/transformers/models/a%2Cb%3Ac/modeling_x.py,line=1067,col=9,title=fusegen FG203::"
        "chameleon.ChameleonForCausalLM.forward: 100%25%0Aof them"
    )
    errors = renderer("github")(broken, plain).splitlines()
    assert len(errors) == 2
    assert errors[0].startswith("::error file=models/a/modeling_a.py,line=1,")
    assert errors[1].endswith("KeyError: 'x'%0A  at")


def test_github_says_nothing_of_matches(sites: dict[str, Site], report: ScanReport, plain: Presentation) -> None:
    only = replace(report, files=(replace(report.files[0], sites=(sites["match"],)),))
    assert renderer("github")(only, plain) == ""


def test_a_site_is_shown_beside_its_source(sites: dict[str, Site]) -> None:
    source = ["        # filler"] * 500
    source[449] = "    def forward(self):"
    source[477] = "        logits = self.lm_head(hidden_states) * self.logit_scale"
    source[478] = "        logits = cap(logits)"
    source[479] = "        loss = self.loss_function(logits)"
    text = render_site(sites["match"], "\n".join(source))
    assert text.startswith("cohere.CohereForCausalLM.forward: match\n  models/cohere/modeling_cohere.py:480:13\n")
    assert "scale(multiply=self.logit_scale)\n" in text
    assert "soft_cap(cap=self.cap) if self.cap is not None\n" in text
    listing = {line.split("|")[0].split()[-1]: line for line in text.splitlines() if " | " in line}
    assert listing["478"].split("|")[0].split() == ["head,", "scale", "478"]
    assert listing["479"].split("|")[0].split() == ["soft_cap?", "479"]
    assert listing["480"].split("|")[0].split() == ["loss", "480"]
    assert listing["450"].endswith("450 | def forward(self):")


def test_a_rejected_site_names_its_code_at_the_line(sites: dict[str, Site]) -> None:
    text = render_site(sites["reject"], "x\n" * 1100)
    assert any(line.split("|")[0].split() == ["FG203", "1067"] for line in text.splitlines())


def test_a_file_that_changed_since_does_not_break_the_listing(sites: dict[str, Site]) -> None:
    for site in sites.values():
        assert site.id in render_site(site, "")
