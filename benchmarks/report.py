"""Size and speed of the HTML report for a whole tree, with generated forwards beside the originals.

    python benchmarks/report.py [--source installed|PATH|WHEEL|VERSION] [--screenshots DIR]

The page is opened in a headless Chromium, where there is one: the times to load it, to narrow it and to open a row
are medians, each until the browser has laid the page out again. `--screenshots` writes the pictures of docs/report.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from chromium import Browser, executable

import fusegen
from fusegen.codegen.emit import emit
from fusegen.codegen.package import REPORT
from fusegen.codegen.pages import site_pages
from fusegen.codegen.pipeline import scan
from fusegen.codegen.report import Presentation, renderer
from fusegen.codegen.sources import Source, open_source

TIMED = """
(() => {
  const timed = (action) => {
    const start = performance.now();
    action();
    document.body.getBoundingClientRect();
    return performance.now() - start;
  };
  const field = document.querySelector('[name=q]');
  const links = [...document.querySelectorAll('#sites th > a')];
  const narrowed = ['gemma', 'fg102', 'causal', 'nothing at all', ''].map((text) => timed(() => {
    field.value = text;
    field.dispatchEvent(new Event('input', { bubbles: true }));
  }));
  return { narrowed, opened: links.slice(0, 40).map((link) => timed(() => link.click())) };
})()
"""

# Name, width, height, dark, what the address asks for.
PICTURES = (
    ("overview", 1280, 860, False, ""),
    ("forwards", 1280, 800, True, "#gemma2.Gemma2ForCausalLM.forward"),
    ("phone", 390, 780, False, "#chameleon.ChameleonForConditionalGeneration.forward"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="installed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--screenshots", type=Path, metavar="DIR")
    options = parser.parse_args()
    source = open_source(options.source)
    rendered(source, options.jobs)
    text = emit(source, fusegen.__version__, jobs=options.jobs).files[REPORT]
    print(f"with generated forwards        {len(text.encode()) / 1e6:6.2f} MB")
    if executable() is None:
        print("no Chromium on the PATH: nothing is measured in a browser")
        return
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        page = Path(folder) / REPORT
        page.write_text(text, encoding="utf-8")
        measured(browser, page)
        if options.screenshots:
            options.screenshots.mkdir(parents=True, exist_ok=True)
            for name, width, height, dark, fragment in PICTURES:
                browser.show(width, height, dark=dark)
                browser.open(page.as_uri() + fragment)
                browser.screenshot(options.screenshots / f"{name}.png")


def rendered(source: Source, jobs: int) -> None:
    """How long the page of a scan takes, and how large it is."""
    report = scan(source, jobs=jobs)
    start = time.perf_counter()
    pages = site_pages(report, source.read)
    cut = time.perf_counter()
    text = renderer("html")(report, Presentation(fusegen.__version__, pages=pages))
    end = time.perf_counter()
    print(f"{report.package} {report.version}: {len(report.sites)} rows")
    print(f"cut the functions              {cut - start:6.2f} s")
    print(f"render                         {end - cut:6.2f} s")
    print(f"without generated forwards     {len(text.encode()) / 1e6:6.2f} MB")


def measured(browser: Browser, page: Path) -> None:
    """What a reader waits for."""
    browser.show(1280, 860)
    loads = []
    for _ in range(3):
        browser.open(page)
        loads.append(browser.run("performance.getEntriesByType('navigation')[0].duration"))
    times = browser.run(TIMED)
    print(f"load                           {statistics.median(loads):6.0f} ms")
    print(f"narrow the table               {statistics.median(times['narrowed']):6.0f} ms")
    print(f"open a row                     {statistics.median(times['opened']):6.0f} ms")


if __name__ == "__main__":
    main()
