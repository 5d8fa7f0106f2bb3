"""Bytes of a source file to text, as Python does it: UTF-8, unless a coding line or a byte order mark says more."""

from __future__ import annotations

import io
import tokenize

# No source file is this long, and none is read whose archive says so (or unpacks to more).
MAX_FILE_BYTES = 16 * 1024 * 1024


def decode(content: bytes) -> str:
    """The text of a source file, without a byte order mark.

    Raises `SyntaxError` with the line where a byte is not in the file's encoding, or the encoding is not known.
    """
    encoding = _encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _at(line, f"byte 0x{content[error.start]:02x} is not {encoding}") from error
    except LookupError as error:
        raise _at(1, f"{encoding!r} is no encoding of text") from error


def _encoding(content: bytes) -> str:
    try:
        return tokenize.detect_encoding(io.BytesIO(content).readline)[0]
    except SyntaxError as error:
        if error.msg.startswith("invalid"):
            return "utf-8"  # a byte of the first two lines is wrong: decoding says which
        raise _at(1, error.msg) from error


def _at(line: int, message: str) -> SyntaxError:
    return SyntaxError(message, (None, line, None, None))
