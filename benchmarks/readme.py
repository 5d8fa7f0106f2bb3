"""The parts of README.md that a command writes; each stands between two marks of its name."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def with_part(readme: str, name: str, text: str) -> str:
    """The README with `text` between the marks of a part."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = readme.split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def put(name: str, text: str) -> None:
    """Writes a part of README.md."""
    README.write_text(with_part(README.read_text(encoding="utf-8"), name, text), encoding="utf-8")
