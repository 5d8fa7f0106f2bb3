"""The HTML report as text: what it says without scripts, what it holds for them, and what cannot get into it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fusegen.codegen.emit import MANIFEST, Emission, emit
from fusegen.codegen.index import FileIndex
from fusegen.codegen.package import REPORT
from fusegen.codegen.pages import site_pages
from fusegen.codegen.pipeline import scan
from fusegen.codegen.reasons import REASONS
from fusegen.codegen.records import ScanReport, Site
from fusegen.codegen.report import Presentation, renderer
from fusegen.codegen.report.page import Excerpt, Refusal, SitePage, Verification
from fusegen.codegen.report.verified import BEGIN, renewed, verifications
from fusegen.codegen.sources import open_source

GENERATED = Path(__file__).parents[2] / "generated"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&<!--"


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text inside each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @cached_property
    def data(self) -> Any:
        return json.loads(self.scripts[0])


def page_of(report: ScanReport, *pages: SitePage, verified: tuple[Verification, ...] = ()) -> Page:
    return Page(renderer("html")(report, Presentation("0.1.0", pages=pages, verified=verified)))


@pytest.fixture
def emission(tree: Path) -> Emission:
    return emit(open_source(str(tree)), "1.2.3", jobs=1)


@pytest.fixture
def emitted(emission: Emission) -> Page:
    return Page(emission.files[REPORT])


def side(page: Page, excerpt: dict[str, Any]) -> str:
    return "\n".join(page.data["lines"][number] for number in excerpt["text"])


def patched_text(page: Page, site: dict[str, Any]) -> str:
    """What a browser shows as the patched side."""
    lines = page.data["lines"]
    old = [lines[number] for number in site["original"]["text"]]
    before, rows = site["patched"]["before"], site["patched"]["rows"]
    done = before + sum(at >= 0 for at, _ in rows)
    return "\n".join([*old[:before], *(lines[number] for _, number in rows if number >= 0), *old[done:]])


# -- what it says ----------------------------------------------------------------------------------------------


def test_every_site_is_a_row_that_needs_no_script(report: ScanReport) -> None:
    page = page_of(report)
    assert "3 of 5 places where a language-model head meets its loss can be fused, in 8 modeling files" in page.text
    rows = [each for each in page.all("tr") if "data-verdict" in each]
    assert [row["id"] for row in rows] == sorted(site.id for site in report.sites)
    assert "soft_cap? causal(shifted)" in page.text
    assert "FG203 entries of the logits are overwritten before the loss: a | b, 100%" in page.text
    assert "logits[:, :, image_tokens] = lowest" in page.text
    assert "to self.language_model" in page.text
    assert "the loss runs over classes" in page.text
    assert "models/whale/modeling_whale.py" in page.text


def test_a_scan_has_originals_only(tree: Path) -> None:
    source = open_source(str(tree))
    report = scan(source, jobs=1)
    page = page_of(report, *site_pages(report, source.read))
    assert not any("patched" in site for site in page.data["sites"])
    assert "A forward was generated" not in page.text
    text = (tree / "models/edited/modeling_edited.py").read_text()
    (edited,) = [site for site in page.data["sites"] if "edited" in site["place"]]
    assert (
        side(page, edited["original"]) == FileIndex(text).classes["EditedForCausalLM"].methods["forward"].text.rstrip()
    )
    assert text.split("\n")[edited["wrong"] - 1].strip() == "logits[:, :, 7] = float('-inf')"
    assert "FG203" in edited["marks"][str(edited["wrong"])]


def test_an_emission_has_both_sides_of_each_forward(emission: Emission, emitted: Page) -> None:
    assert "A forward was generated for 2." in emitted.text
    seen = 0
    for site in emitted.data["sites"]:
        if "patched" in site:
            seen += 1
            module = emission.files[site["patched"]["path"]]
            assert patched_text(emitted, site) in module
            first = module.split("\n")[site["patched"]["line"] - 1]
            assert patched_text(emitted, site).startswith(first)
            assert "fusible(" in patched_text(emitted, site)
            assert "fusible(" not in side(emitted, site["original"])
    assert seen == len(emission.emitted) == 2


def test_the_checked_in_page_shows_the_checked_in_forwards() -> None:
    text = (GENERATED / REPORT).read_text(encoding="utf-8")
    assert len(text.encode()) < 6_000_000
    page = Page(text)
    shown = [site for site in page.data["sites"] if "patched" in site]
    assert len(shown) == len(json.loads((GENERATED / MANIFEST).read_text(encoding="utf-8"))["classes"])
    for site in shown:
        first = site["patched"]["line"] - 1
        lines = (GENERATED / site["patched"]["path"]).read_text(encoding="utf-8").split("\n")[first:]
        patched = patched_text(page, site).split("\n")
        assert lines[: len(patched)] == patched


def test_a_function_that_the_quick_index_cuts_wrongly_is_shown_whole(tree: Path) -> None:
    file = tree / "models/llama/modeling_llama.py"
    odd = "        quotes = '" + '"' * 3 + "'\n"
    file.write_text(file.read_text().replace("        outputs = self.model", odd + "        outputs = self.model"))
    emission = emit(open_source(str(tree)), "1", jobs=1)
    page = Page(emission.files[REPORT])
    (llama,) = [site for site in page.data["sites"] if "llama" in site["place"]]
    for text in (side(page, llama["original"]), patched_text(page, llama)):
        assert text.startswith("    def forward(self, input_ids=None, labels=None, **kwargs):\n" + odd)
        assert text.endswith("return CausalLMOutputWithPast(loss=loss, logits=logits)")


def test_a_match_that_is_not_emitted_says_why(write_tree: Callable[..., Path], tree: Path) -> None:
    text = (tree / "models/llama/modeling_llama.py").read_text()
    late = text.replace("logits=logits)", "logits=logits.float())")
    root = write_tree({"models/late/modeling_late.py": late, "__init__.py": ""}, into=tree.parents[1] / "late")
    page = Page(emit(open_source(str(root)), "1", jobs=1).files[REPORT])
    (row,) = [each for each in page.all("tr") if "data-verdict" in each]
    assert (row["data-verdict"], row["data-reason"]) == ("match not-emitted", "FG602")
    (site,) = page.data["sites"]
    assert late.split("\n")[site["wrong"] - 1].strip().startswith("return ")
    assert dict(site["facts"])["would help"] == REASONS["FG602"].remedy
    assert "FG602 logits is needed after the loss for more than the output" in page.text


def test_what_takes_part_from_elsewhere_in_the_file_is_shown(sites: dict[str, Site], report: ScanReport) -> None:
    excerpt = Excerpt(sites["match"].file, 700, "def cap(x):\n    return tanh(x)")
    page = page_of(report, SitePage(sites["match"], Excerpt(sites["match"].file, 450, "def forward():"), (excerpt,)))
    (elsewhere,) = [each for site in page.data["sites"] for each in site.get("elsewhere", ())]
    assert (elsewhere["line"], side(page, elsewhere)) == (700, excerpt.text)


def test_lines_far_from_the_function_are_cut_from_the_file(write_tree: Callable[..., Path], tree: Path) -> None:
    text = (tree / "models/llama/modeling_llama.py").read_text()
    text = text.replace("logits = self.lm_head(outputs.last_hidden_state)", "logits = self.project(outputs[0])")
    helper = "\n    def project(self, hidden):\n        return self.lm_head(hidden) * self.config.factor\n"
    text = text.replace(
        "\n    def forward(self, input_ids=None, labels", helper + "\n    def forward(self, input_ids=None, labels"
    )
    root = write_tree({"models/far/modeling_far.py": text, "__init__.py": ""}, into=tree.parents[1] / "far")
    source = open_source(str(root))
    (page,) = site_pages(scan(source, jobs=1), source.read)
    (elsewhere,) = page.elsewhere
    assert "return self.lm_head(hidden) * self.config.factor" in elsewhere.text
    assert text.split("\n")[elsewhere.line - 1] == elsewhere.text.split("\n")[0]


def verified_entry(site: Site, **verified: Any) -> dict[str, Any]:
    names = {"model": site.model, "class": site.class_name, "method": site.method}
    return names | ({"verified": {"version": "5.23.0", **verified}} if verified else {})


def test_what_was_verified_stands_in_a_table_of_forwards_and_checks(sites: dict[str, Site], report: ScanReport) -> None:
    entries = [
        verified_entry(sites["plain"], checks={"plain": "same", "bf16": "same"}, errors={"bf16": 0.002}),
        verified_entry(sites["match"], checks={"plain": "same", "knobs off": "raises", "bf16": "same"}, errors={}),
        verified_entry(sites["reject"], checks={"plain": "same"}),
    ]
    found = verifications([*entries, {"model": "x", "class": "X", "method": "forward"}])
    page = page_of(report, verified=found)
    assert "3 forwards verified, by check" in page.text
    assert "Forward Verified with Checks plain knobs off bf16".replace(" ", "") in page.text.replace(" ", "")
    assert f"{sites['plain'].id}5.23.02 same0–2e-03" in page.text
    assert f"{sites['match'].id}5.23.02 same, 1 raising alike0raises0" in page.text
    assert f"{sites['reject'].id}5.23.01 samesame––" in page.text
    assert [each["data-site"] for each in page.all("tr") if "data-site" in each] == [each.site for each in found]


def test_the_table_of_what_was_verified_can_be_renewed(sites: dict[str, Site], report: ScanReport) -> None:
    entries = [verified_entry(sites["match"], checks={"plain": "same"})]
    without, verified = (
        renderer("html")(report, Presentation("0.1.0", verified=each)) for each in ((), verifications(entries))
    )
    assert "forwards verified" not in without
    assert renewed(without, entries) == verified
    assert renewed(verified, []) == without
    assert renewed("<html>of an older release</html>", entries) == "<html>of an older release</html>"


# -- broken and empty trees ------------------------------------------------------------------------------------


def test_a_tree_that_could_not_be_read_says_so(broken: ScanReport) -> None:
    page = page_of(broken)
    assert "No place where a language-model head meets a loss was found in 2 modeling files." in page.text
    assert "models/b/modeling_b.py:7 internal error" in page.text
    assert "transformers (unknown version)" in page.text
    assert page.all("table") == page.all("form") == page.scripts == []


def test_an_empty_tree_says_so(empty: ScanReport) -> None:
    page = page_of(empty)
    assert "was found in 0 modeling files." in page.text
    assert page.all("table") == page.scripts == []


def test_a_source_that_changed_since_the_scan_is_no_error(tree: Path) -> None:
    source = open_source(str(tree))
    report = scan(source, jobs=1)
    for content in (None, b"", b"class LlamaForCausalLM:\n  def forward(\n", b"\xff\xfe"):
        pages = site_pages(report, lambda path, content=content: content)
        assert [page.original for page in pages] == [None] * len(report.sites)
        page_of(report, *pages)


# -- one page, and nothing but it ------------------------------------------------------------------------------


def test_the_page_loads_nothing_and_runs_its_own_script_only(emission: Emission, emitted: Page) -> None:
    for _, attributes in emitted.elements:
        for name in attributes.keys() & {"src", "href", "srcset", "action"}:
            assert (attributes[name] or "").startswith(("#", "data:,"))
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|import\(", emission.files[REPORT].split('id="data"')[0])
    assert not re.search(r"fetch\(|XMLHttp|import\(|innerHTML", emitted.scripts[1])
    (policy,) = [each["content"] for each in emitted.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(emitted.scripts[1].encode()).digest()).decode()
    assert policy is not None
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert len(emitted.scripts) == 2


def test_nothing_in_a_tree_becomes_markup(sites: dict[str, Site], report: ScanReport, broken: ScanReport) -> None:
    innocent = page_of(replace(report, files=report.files + broken.files))
    site = sites["reject"]
    hostile = replace(
        site,
        id=HOSTILE,
        model=HOSTILE,
        file=HOSTILE,
        class_name=HOSTILE,
        reason=f"{HOSTILE} `{HOSTILE}`",
        excerpt=HOSTILE,
        code=HOSTILE,
        losses=(
            replace(
                site.losses[0],
                kind=HOSTILE,
                head=replace(site.losses[0].head, expression=HOSTILE),  # type: ignore[type-var]
                chain=(replace(sites["match"].losses[0].chain[0], op=HOSTILE),),
            ),
        ),
    )
    attacked = replace(
        report,
        package=HOSTILE,
        version=HOSTILE,
        files=(
            *(replace(file, sites=(hostile,)) if site in file.sites else file for file in report.files),
            *(
                replace(file, failures=(replace(file.failures[0], file=HOSTILE, message=HOSTILE),))
                for file in broken.files
            ),
        ),
    )
    excerpt = Excerpt(HOSTILE, 1, f"def forward():\n    '''{HOSTILE}'''")
    verified = (Verification(f"{HOSTILE}{BEGIN}", HOSTILE, {HOSTILE: HOSTILE}),)
    page = page_of(attacked, SitePage(hostile, excerpt, (excerpt,), excerpt), verified=verified)
    assert len(page.scripts) == 2
    assert page.scripts[1] == innocent.scripts[1]
    assert page.all("img") == []
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert any(side(page, each["original"]) == excerpt.text for each in page.data["sites"] if "original" in each)
    assert page.text.count("<script>alert(1)</script>") >= 8


def test_a_line_that_stands_in_many_forwards_is_held_once(sites: dict[str, Site], report: ScanReport) -> None:
    files, pages = [], []
    for number in range(800):
        site = replace(sites["plain"], id=f"llama.Llama{number}ForCausalLM.forward", line=number + 1)
        text = "\n".join(["    def forward(self):", *(f"        x = step_{line}(x)" for line in range(100))])
        pages.append(
            SitePage(site, Excerpt(site.file, 1, text), patched=Excerpt("m.py", 1, text + f"\n        y = {number}"))
        )
        files.append(replace(report.files[0], path=f"{number:03}", sites=(site,)))
    text = renderer("html")(replace(report, files=tuple(files)), Presentation("0", pages=tuple(pages)))
    assert len(Page(text).data["lines"]) == 101 + 800
    assert len(text) < 2_000_000


def test_a_refusal_is_marked_at_its_line(sites: dict[str, Site], report: ScanReport) -> None:
    page = page_of(report, SitePage(sites["plain"], None, refusal=Refusal("FG602", "`x` is needed", 473)))
    (site,) = [each for each in page.data["sites"] if "wrong" in each and each["wrong"] == 473]
    assert site["marks"]["473"] == ["FG602"]
