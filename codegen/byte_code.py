"""Whether a source file is Python as a whole: who reads single functions sees few of the errors in the rest.

Byte code that was made of the file as it is now proves it, for the price of a header, and pip makes some of whatever
it installs. Parsing a file, without a tree for Python to hold, takes as long as finding its sites.
"""

from __future__ import annotations

import struct
import warnings
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from symtable import symtable

_HEADER = struct.Struct("<4sIII")


def is_compiled(file: Path) -> bool:
    """Whether this Python has compiled the file since it was last changed, by the rule that `import` goes by."""
    try:
        with open(cache_from_source(file), "rb") as stream:
            header = stream.read(_HEADER.size)
        status = file.stat()
    except (OSError, NotImplementedError):
        return False
    return header == _HEADER.pack(MAGIC_NUMBER, 0, int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)


def parse(text: str) -> None:
    """Parse the text of a source file. Raises `SyntaxError` where it is not Python, `ValueError` for null bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            symtable(text, "<source>", "exec")
        except (RecursionError, MemoryError):
            return  # too deep for this pass: whether the reader gets through shows function by function
