"""Text from files, made safe to show. Documents, names and logs are data: nothing in them may steer a terminal."""

from __future__ import annotations

import re
import shlex

# C0 and C1 controls, DEL, bidirectional overrides and isolates, line and paragraph separators, surrogates, tags.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def plain(text: object, *, lines: bool = False) -> str:
    """``text`` with every character that could steer a terminal shown as a symbol instead.

    Args:
        lines: keep newlines and tabs; otherwise they too become symbols, and the result is one line.
    """
    shown = _UNSAFE.sub(_symbol, str(text))
    return shown if lines else shown.replace("\n", "␊").replace("\t", "␉")


def quoted(text: object) -> str:
    """``text`` as one word of a shell's line. What could steer the terminal that shows the line stands in ``$'…'``."""
    word = str(text)
    if plain(word) == word:
        return shlex.quote(word)
    return "$'" + "".join(c if plain(c) == c and c not in "\\'" else _bytes(c) for c in word) + "'"


def _bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def _symbol(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "�"


def count(value: float) -> str:
    """A number of parameters or tokens in three significant digits: ``12.3M``, ``1.07B``."""
    for scale, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale * 0.9995:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.3g}"
