"""The HTML report in a real browser: filters, rows that open, marks on the changed lines, phone, dark, no scripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from fusegen.codegen.emit import emit
from fusegen.codegen.package import REPORT
from fusegen.codegen.records import ScanReport, Site
from fusegen.codegen.report import Presentation, renderer
from fusegen.codegen.report.page import Excerpt, SitePage
from fusegen.codegen.report.verified import renewed
from fusegen.codegen.sources import open_source

pytestmark = pytest.mark.browser

VISIBLE = (
    "[...document.querySelectorAll('tr[data-verdict]')].filter((row) => row.checkVisibility()).map((row) => row.id)"
)
GEMMA = "gemma.GemmaForCausalLM.forward"
EDITED = "edited.EditedForCausalLM.forward"
LLAMA = "llama.LlamaForCausalLM.forward"

Load = Callable[..., Any]


@pytest.fixture
def load(browser: Any, tmp_path: Path) -> Load:
    """Opens a page on a desk, or at another size, with an empty fragment or another."""

    def opened(text: str, fragment: str = "", *, width: int = 1400, dark: bool = False) -> Any:
        file = tmp_path / "report.html"
        file.write_text(text, encoding="utf-8")
        browser.show(width, 900, dark=dark)
        browser.open(file.as_uri() + fragment)
        return browser

    return opened


@pytest.fixture
def emitted(tree: Path) -> str:
    """The report of a tree with a plain match, a soft cap and a refused site."""
    return emit(open_source(str(tree)), "1.2.3", jobs=1).files[REPORT]


def type_in(browser: Any, text: str) -> None:
    browser.run("document.querySelector('[name=q]').select()")
    for character in text:
        browser.press(character)


def choose(browser: Any, name: str, value: str) -> None:
    field = f"document.querySelector('select[name={name}]')"
    browser.run(f"{field}.value = '{value}'; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")


def lines(browser: Any, selector: str) -> list[str]:
    found: list[str] = browser.run(
        f"[...document.querySelectorAll({selector!r})].map((line) => line.textContent.trim())"
    )
    return found


def test_the_table_is_narrowed_as_one_types(load: Load, emitted: str) -> None:
    browser = load(emitted)
    assert browser.run(VISIBLE) == [EDITED, GEMMA, LLAMA]
    browser.press("/")
    type_in(browser, "GemmaFor")
    assert browser.run(VISIBLE) == [GEMMA]
    assert browser.run("document.querySelector('output').value") == "1 of 3"
    type_in(browser, "xyz")
    assert browser.run(VISIBLE) == []
    assert "No row matches." in browser.run("document.body.innerText")


def test_verdict_operation_model_and_reason_narrow_it_too(load: Load, emitted: str) -> None:
    browser = load(emitted)
    for name, value, expected in [
        ("verdict", "emitted", [GEMMA, LLAMA]),
        ("verdict", "reject", [EDITED]),
        ("operation", "soft_cap", [GEMMA]),
        ("reason", "FG203", [EDITED]),
        ("model", "llama", [LLAMA]),
    ]:
        choose(browser, name, value)
        assert browser.run(VISIBLE) == expected
        assert browser.run("location.hash") == f"#{name}={value}"
        choose(browser, name, "")
    assert len(browser.run(VISIBLE)) == 3


def test_an_address_shows_what_it_names(load: Load, emitted: str) -> None:
    assert load(emitted, "#verdict=match&q=gemma").run(VISIBLE) == [GEMMA]
    browser = load(emitted, f"#{GEMMA}")
    assert browser.run("document.querySelectorAll('tr.detail').length") == 1
    browser.run("document.querySelector('.legend a.reject').click()")
    browser.run("new Promise((done) => setTimeout(done))")
    assert browser.run(VISIBLE) == [EDITED]


def test_a_row_opens_with_the_keyboard_and_marks_the_changed_lines(load: Load, emitted: str) -> None:
    browser = load(emitted)
    browser.run(f"document.getElementById('{GEMMA}').querySelector('a').focus()")
    browser.press("Enter")
    assert browser.run(f"document.getElementById('{GEMMA}').querySelector('a').ariaExpanded") == "true"
    assert lines(browser, "figcaption b") == ["Original", "Patched"]
    added = lines(browser, "figure:nth-child(2) .ln.added")
    assert added[0] == 'if fusible(self, self.lm_head, labels, loss="ForCausalLMLoss"):'
    assert added[-1] == "else:"
    assert lines(browser, "figure:nth-child(1) .ln.added") == []
    moved = lines(browser, "figure:nth-child(2) .ln.moved")
    assert "logits = torch.tanh(logits)" in moved
    assert any(line.startswith("logits = self.lm_head(") for line in moved)
    # Both sides are level, line by line.
    heights = browser.run(
        "[...document.querySelectorAll('figure pre')].map((pre) => pre.querySelectorAll('.ln, .fold').length)"
    )
    assert heights[0] == heights[1]
    browser.press("Enter")
    assert browser.run("document.querySelector('tr.detail').hidden") is True


def test_unchanged_lines_fold_and_unfold(load: Load, tree: Path) -> None:
    file = tree / "models/llama/modeling_llama.py"
    long = "".join(f"        # remark {number}\n" for number in range(40))
    file.write_text(file.read_text().replace("        outputs = self.model", long + "        outputs = self.model"))
    browser = load(emit(open_source(str(tree)), "1", jobs=1).files[REPORT], f"#{LLAMA}")
    assert "# remark 7" not in lines(browser, ".ln")
    browser.run("document.querySelector('.fold').click()")
    assert lines(browser, ".ln").count("# remark 7") == 2
    assert browser.run("document.querySelector('.fold')") is None


def test_the_line_that_caused_a_rejection_is_marked(load: Load, emitted: str) -> None:
    browser = load(emitted)
    browser.run(f"document.getElementById('{EDITED}').click()")
    (line,) = lines(browser, ".ln.wrong")
    assert line.startswith("logits[:, :, 7] = float('-inf')")
    assert "FG203" in line
    assert lines(browser, "figcaption b") == ["Original"]


def test_a_phone_shows_one_pane_and_nothing_sticks_out(load: Load, emitted: str) -> None:
    browser = load(emitted, f"#{GEMMA}", width=390)
    assert browser.run("document.documentElement.scrollWidth") == 390
    assert lines(browser, "figcaption b") == ["Original and patched"]
    assert any(line.startswith("if fusible(") for line in lines(browser, ".ln.added"))
    assert any(line.startswith("logits = torch.tanh") for line in lines(browser, ".ln.moved"))


@pytest.mark.parametrize("width", [1400, 390])
def test_a_row_shows_what_was_verified_of_it(load: Load, emitted: str, width: int) -> None:
    names = {"model": "gemma", "class": "GemmaForCausalLM", "method": "forward"}
    checks = {"some ignored": "same", "uncut labels": "raises"} | {f"check {number}": "same" for number in range(20)}
    entries = [names | {"verified": {"version": "5.23.0", "checks": checks, "errors": {"some ignored": 3e-7}}}]
    browser = load(renewed(emitted, entries), f"#{GEMMA}", width=width)
    assert browser.run(f"document.getElementById('{GEMMA}').lastChild.textContent") == "21 same, 1 raising alike"
    assert browser.run(f"document.getElementById('{LLAMA}').lastChild.textContent") == ""
    facts = dict(zip(lines(browser, ".detail dt"), lines(browser, ".detail dd"), strict=True))
    assert (facts["Verified with"], facts["some ignored"], facts["uncut labels"]) == ("5.23.0", "3e-07", "raises")
    browser.run("document.getElementById('verified').open = true")
    assert browser.run("document.documentElement.scrollWidth") == width


def test_dark_mode_follows_the_user(load: Load, emitted: str) -> None:
    def brightness(dark: bool) -> list[float]:
        browser = load(emitted, dark=dark)
        styles = "const s = getComputedStyle(document.body); [s.backgroundColor, s.color]"
        return [sum(map(float, color[4:-1].split(","))) for color in browser.run(styles)]

    paper, ink = brightness(dark=False)
    dark_paper, dark_ink = brightness(dark=True)
    assert paper > 700 > 150 > ink
    assert dark_paper < 150 < 600 < dark_ink


def test_without_scripts_the_table_is_complete(load: Load, browser: Any, emitted: str) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        load(emitted)
        assert browser.run(VISIBLE) == [EDITED, GEMMA, LLAMA]
        text = browser.run("document.body.innerText")
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert "the table is complete without them" in text
    assert "logits[:, :, 7] = float('-inf')" in text
    assert "Search" not in text


def test_a_hostile_tree_runs_nothing(load: Load, sites: dict[str, Site], report: ScanReport) -> None:
    hostile = "</script><script>alert(1)</script><img src=https://example.com/x onerror=alert(2)>"
    site = replace(sites["reject"], id=hostile, class_name=hostile, reason=hostile, excerpt=hostile)
    excerpt = Excerpt("models/x.py", 1, f"def forward():\n    '''{hostile}'''")
    files = tuple(replace(file, sites=(site,)) if file.sites else file for file in report.files)
    pages = (SitePage(site, excerpt, (excerpt,), excerpt),)
    browser = load(renderer("html")(replace(report, files=files), Presentation("0.1.0", pages=pages)))
    browser.run("document.querySelector('tr[data-verdict]').click()")
    assert any(hostile in line for line in lines(browser, ".ln"))
    assert browser.run("document.querySelectorAll('img, script').length") == 2
    assert browser.events("Page.javascriptDialogOpening") == browser.events("Log.entryAdded") == []
    assert [each["request"]["url"][:5] for each in browser.events("Network.requestWillBeSent")] == ["file:"]


def test_eight_hundred_rows_are_narrowed_in_a_tenth_of_a_second(
    load: Load, sites: dict[str, Site], report: ScanReport
) -> None:
    kinds = [sites[name] for name in ("match", "plain", "reject", "delegated")]
    many = [
        replace(kinds[number % 4], id=f"model{number}.Class{number}ForCausalLM.forward", model=f"model{number}")
        for number in range(800)
    ]
    browser = load(
        renderer("html")(replace(report, files=(replace(report.files[0], sites=tuple(many)),)), Presentation("0"))
    )
    script = """
    (() => {
      const field = document.querySelector('[name=q]');
      return ['class7', 'fg203', 'nothing at all', '', 'causal', ''].map((text) => {
        const start = performance.now();
        field.value = text;
        field.dispatchEvent(new Event('input', { bubbles: true }));
        document.body.getBoundingClientRect();
        return performance.now() - start;
      });
    })()
    """
    times = [time for _ in range(3) for time in browser.run(script)]
    assert len(browser.run(VISIBLE)) == 800
    assert median(times) < 100
