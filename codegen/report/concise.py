"""One line a site, for grep and editors:

models/x/modeling_x.py:480:13: match x.XForCausalLM.forward  self.lm_head > scale > causal(shifted)
models/y/modeling_y.py:91:9: FG203 y.YForCausalLM.forward  the logits go into a function that is not known
"""

from __future__ import annotations

from fusegen.codegen.records import ScanReport
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.wording import ordered_sites, place, verdict_text


def render(report: ScanReport, presentation: Presentation) -> str:
    return "".join(
        f"{place(site)}: {site.code or site.verdict} {site.id}  {verdict_text(site)}\n"
        for site in ordered_sites(report)
    )
