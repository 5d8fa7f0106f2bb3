"""Texts that no model has and Python allows, or nearly: each is read, refused with a reason, or is no Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusegen.codegen.emit import FileEmitter
from fusegen.codegen.layouts import LAYOUTS
from fusegen.codegen.losses import DEFAULT_MAPPING
from fusegen.codegen.one_module import _OneFile
from fusegen.codegen.pages import site_pages
from fusegen.codegen.records import ScanReport
from fusegen.codegen.report import FORMATS, Presentation, renderer

PATH = "models/bird/modeling_bird.py"
PLAIN = (Path(__file__).parents[1] / "cases" / "linear_cross_entropy" / "plain.py").read_text()
INSIDE = "        logits = self.lm_head("
DEEP = "(" * 150 + "1" + ")" * 150

TEXTS = {
    "a form feed": PLAIN.replace("\nclass", "\n\x0cclass"),
    "a form feed in a function": PLAIN.replace(INSIDE, f"\x0c{INSIDE}"),
    "tabs": PLAIN.replace("        ", "\t\t").replace("    ", "\t"),
    "a byte order mark": "\ufeff" + PLAIN,
    "carriage returns": PLAIN.replace("\n", "\r\n"),
    "old line ends": PLAIN.replace("\n", "\r"),
    "nested f-strings": PLAIN.replace(INSIDE, f"        name = f\"{{f'{{self!r:>{{3}}}}'}} {{{{}}}}\"\n{INSIDE}"),
    "a continued line": PLAIN.replace("loss = None", "loss = \\\n            None"),
    "a continuation at the end": PLAIN + "x = 1 \\\n",
    "a null byte": PLAIN.replace("loss = None", "loss = None\x00"),
    "control characters": PLAIN.replace(INSIDE, f"        # \x1b[31m \x07 \x7f \u2028 \x85\n{INSIDE}"),
    "a line separator in a string": PLAIN.replace(INSIDE, f'        name = "\u2028\x0b\x1c"\n{INSIDE}'),
    "an escaped surrogate": PLAIN.replace(INSIDE, f'        name = "\\ud800"\n{INSIDE}'),
    "an escaped surrogate in the loss": PLAIN.replace("vocab_size=", 'note="\\udfff\\x00", vocab_size='),
    "an escaped surrogate in the head": PLAIN.replace(INSIDE, '        logits = self["\\udc80"]('),
    "a huge line": PLAIN.replace(INSIDE, f"        names = {list(range(20_000))}\n{INSIDE}"),
    "a long expression": PLAIN.replace(INSIDE, f"        number = {' + '.join(['1'] * 3000)}\n{INSIDE}"),
    "a deep expression": PLAIN.replace(INSIDE, f"        number = {DEEP}\n{INSIDE}"),
    "a too deep expression": PLAIN.replace(INSIDE, f"        number = {DEEP * 3}\n{INSIDE}".replace(")(", "*(")),
    "a very deep expression": PLAIN.replace(INSIDE, f"        number = {'(' * 5000}1{')' * 5000}\n{INSIDE}"),
    "a long chain of calls": PLAIN.replace(INSIDE, f"        number = a{'.b()' * 2000}\n{INSIDE}"),
    "many minus signs": PLAIN.replace(INSIDE, f"        number = {'-' * 5000}1\n{INSIDE}"),
    "deep blocks": PLAIN.replace(
        INSIDE, "".join(f"{' ' * (8 + n)}if self:\n" for n in range(90)) + f"{' ' * 98}pass\n{INSIDE}"
    ),
    "a huge number": PLAIN.replace(INSIDE, f"        number = {'9' * 5000}\n{INSIDE}"),
    "type parameters": PLAIN.replace("def forward(", "def forward[T](").replace(
        "class Bird", "type X = int\nclass Bird"
    ),
    "a star in a subscript": PLAIN.replace(INSIDE, f"        number = x[*y]\n{INSIDE}"),
    "a walrus in a decorator": PLAIN.replace("    def forward(", "    @(f := g)\n    def forward("),
    "names of other letters": PLAIN.replace("hidden_states", "скрытые").replace("logits =", "ﬁ = logits ="),
    "nothing": "",
    "no line end": PLAIN.rstrip("\n"),
    "a string without an end": PLAIN + '"""',
    "a docstring of code": PLAIN.replace(
        "class Bird", f'"""\n{PLAIN.replace(chr(34) * 3, "")}\n"""\n\n\nclass Bird', 1
    ),
}
BYTES = {
    "another encoding": b"# coding: latin-1\n# \xe9\n" + PLAIN.encode(),
    "an unknown encoding": b"# coding: no-such\n" + PLAIN.encode(),
    "an encoding of bytes": b"# coding: hex\n" + PLAIN.encode(),
    "an encoding of many bytes": b"# coding: utf-16\n" + PLAIN.encode(),
    "a wrong byte": PLAIN.encode().replace(b"loss = None", b"loss = None # \xff"),
    "an encoded surrogate": PLAIN.encode().replace(b"loss = None", b"loss = None # \xed\xa0\x80"),
    "a mark of another width": PLAIN.encode("utf-16"),
}


class Edited(_OneFile):
    """A file that nobody has imported yet: it may be no Python."""

    def is_compiled(self, path: str) -> bool:
        return False


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "content", [*(text.encode() for text in TEXTS.values()), *BYTES.values()], ids=[*TEXTS, *BYTES]
)
def test_no_text_is_a_crash(content: bytes, layout: str) -> None:
    source = Edited("transformers", None, PATH, content)
    outcome = FileEmitter("0", layout)(source, PATH, DEFAULT_MAPPING)
    assert not [failure for failure in outcome.failures if failure.internal]
    if outcome.text is not None and layout != "patch":
        compile(outcome.text, "generated", "exec")
    report = ScanReport("transformers", None, (outcome.report,))
    pages = site_pages(report, source.read)
    for name in FORMATS:
        renderer(name)(report, Presentation("0", pages=pages)).encode()
