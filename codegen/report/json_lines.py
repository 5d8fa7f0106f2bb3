"""One site a line, each the object that `sites` of the JSON report holds."""

from __future__ import annotations

import json

from fusegen.codegen.records import ScanReport
from fusegen.codegen.report.json_report import site_object
from fusegen.codegen.report.presentation import Presentation
from fusegen.codegen.report.wording import ordered_sites
from fusegen.codegen.visible import json_text


def render(report: ScanReport, presentation: Presentation) -> str:
    lines = (json_text(json.dumps(site_object(site), ensure_ascii=False)) for site in ordered_sites(report))
    return "".join(f"{line}\n" for line in lines)
