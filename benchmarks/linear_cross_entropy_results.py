"""What `linear_cross_entropy.py` measured, as tables and pictures.

python benchmarks/linear_cross_entropy_results.py             # everything, in Markdown
python benchmarks/linear_cross_entropy_results.py --readme    # put the short table into README.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from readme import put

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "linear_cross_entropy.json"
PART = "performance"
SHORT = (
    "fusegen",
    "fusegen, lean",
    "fusegen, exact",
    "torch eager",
    "torch.compile",
    "liger",
    "cut-cross-entropy",
    "trl chunked head",
)


def table(measurements: list[dict[str, Any]]) -> str:
    """Markdown: a line per contender and setting."""
    lines = [
        "| N×H×V | setting | contender | ms | × floor | workspace MB | error dW | error dX | error loss |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for each in measurements:
        start = ["×".join(map(str, each["shape"])), each["setting"], each["contender"]]
        if each["failure"] is not None:
            lines.append(f"| {' | '.join(start)} | {each['failure']} ||||||")
            continue
        formats = ("ms", ".2f"), ("multiple", ".3f"), ("workspace_mb", ".0f")
        errors = tuple((f"{name}_error", ".2e") for name in ("grad_weight", "grad_hidden", "loss"))
        numbers = ["" if each[name] is None else format(each[name], how) for name, how in (*formats, *errors)]
        lines.append(f"| {' | '.join(start + numbers)} |")
    return "\n".join(lines)


def short_table(report: dict[str, Any]) -> str:
    """Markdown for the README: a line per contender, a column per shape."""
    rows = [each for each in report["measurements"] if each["setting"] == "both"]
    shapes = list(dict.fromkeys(tuple(each["shape"]) for each in rows))
    found = {(each["contender"], tuple(each["shape"])): each for each in rows}
    versions = report["versions"]
    where = ", ".join(
        f"{name} {versions[name]}" for name in ("torch", "triton", "liger-kernel", "trl") if name in versions
    )
    lines = [
        f"One {versions['gpu']}, bfloat16, forward and backward, {where}:",
        "time as a multiple of the three bare matrix products of the same run (the device's clock drifts, so that a",
        "short step can come out below 1), workspace beyond the two gradients, relative error of the head's gradient.",
        "",
        f"| tokens × hidden size × vocabulary | {' | '.join('×'.join(map(str, shape)) for shape in shapes)} |",
        f"|---|{'---|' * len(shapes)}",
    ]
    for name in SHORT:
        cells = [_cell(found.get((name, shape))) for shape in shapes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None or found["failure"] is not None:
        return "–"
    size = found["workspace_mb"]
    workspace = f"{size / 1024:.1f} GB" if size >= 1024 else f"{size:.0f} MB"
    return f"{found['multiple']:.2f}, {workspace}, {found['grad_weight_error']:.1e}"


def draw(measurements: list[dict[str, Any]], out: Path) -> None:
    """Two PNGs, a panel per shape: time against workspace, error of dW against workspace."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [each for each in measurements if each["setting"] == "both" and each["failure"] is None]
    shapes = list(dict.fromkeys(tuple(each["shape"]) for each in rows))
    names = list(dict.fromkeys(each["contender"] for each in rows))
    for value, label, name in (
        ("multiple", "time, multiple of the three bare products", "time"),
        ("grad_weight_error", "relative error of dW", "error"),
    ):
        figure, panels = pyplot.subplots(1, len(shapes), figsize=(3.6 * len(shapes), 4.4), squeeze=False, sharey=True)
        for panel, shape in zip(panels[0], shapes, strict=True):
            panel.set(title="×".join(map(str, shape)), xlabel="workspace, MB", xscale="log", yscale="log")
            for each in rows:
                if tuple(each["shape"]) != shape:
                    continue
                contender = each["contender"]
                marker = "o" if contender.startswith("fusegen") else "x"
                color = f"C{names.index(contender) % 10}"
                panel.plot(max(1, each["workspace_mb"] or 0), each[value], marker, color=color, label=contender)
            panel.grid(alpha=0.3, which="both")
        panels[0][0].set_ylabel(label)
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=7, fontsize=8, frameon=False)
        figure.tight_layout(rect=(0, 0.1, 1, 1))
        figure.savefig(out / f"linear_cross_entropy_{name}.png", dpi=100)
        pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--readme", action="store_true", help="rewrite the table in README.md")
    parser.add_argument("--draw", action="store_true", help="draw the PNGs beside the JSON")
    arguments = parser.parse_args()
    report = json.loads(arguments.results.read_text(encoding="utf-8"))
    if arguments.readme:
        put(PART, short_table(report))
    if arguments.draw:
        draw(report["measurements"], arguments.results.parent)
    if not (arguments.readme or arguments.draw):
        print(table(report["measurements"]))


if __name__ == "__main__":
    main()
