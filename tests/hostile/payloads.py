"""What a hostile text tries, and how it shows that it came through.

A planted text is a marker of its door, what it tries, and ``END``. Where a sink shows the marker, the text has reached
it. It had effect where a control sequence of it arrived as it is, where what it tries has vanished from between marker
and ``END`` (it was obeyed), or where a reader of markdown or HTML sees more than text in it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

END = "zz"
EVIL = "http://evil.example"
CLIPBOARD = base64.b64encode(b"qz hacked").decode()

PAYLOADS = {
    "colour, clear (CSI)": "\x1b[38;5;196;4242m\x1b[2J\x1b[42;42H",
    "clipboard (OSC 52)": f"\x1b]52;c;{CLIPBOARD}\x07",
    "link (OSC 8)": f"\x1b]8;;{EVIL}\x1b\\",
    "title, notice (OSC 0, 777)": "\x1b]0;qz owned\x07\x1b]777;notify;qz;owned\x07",
    "questions (DSR, DECRQSS)": "\x1b[6n\x1bP$qm\x1b\\\x1b]10;?\x07",
    "8-bit controls (C1)": "\x9b31m\x9d0;qz owned\x9c\x85",
    "direction (bidi)": "\u202e\u2066\u200f\u2069",
    "line ends": "\r\x08\x08\x0b\x0c\u2028",
    "Rich markup": "[bold red][/bold red][link=http://evil.example]",
    "Textual markup": "[@click=app.quit][/][$error]$text",
    "markdown": "](http://evil.example)![p](http://evil.example/p.png)`**_|",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)><!--",
}  # fmt: skip
# Controls but for newline and tab, 8-bit ones, and what turns the direction of text.
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u200e\u200f\u2066-\u2069]")
# What a full-screen program sends itself, and what stands in no payload: never an OSC but those that are looked at.
_OURS = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-OQ-Z\\^_=>78]|[()].)|\r|\x07|\x08")
_STYLES = re.compile(r"\x1b\[(?!38;5;196;4242)[\d;]*m")  # of tables and bars that commands draw
_FOREIGN = [
    "\x1b[38;5;196;4242m", "\x1b[42;42H", f"\x1b]52;c;{CLIPBOARD[:-2]}", f"\x1b]8;;{EVIL}", "\x1b]0;qz",
    "\x1b]777;notify;qz", "\x1b[6n", "\x1bP$qm", "\x1b]10;?",
    *"\x85\x9b\x9c\x9d\u2028\u202e\u2066\u2069\u200f", "\x08\x08",
]  # fmt: skip


def marker(door: str) -> str:
    """What tells a door's text from all others: two letters each."""
    return f"qz{door}q"


def planted(door: str, payload: str) -> str:
    """The text that goes in by a door."""
    return marker(door) + payload + END


def file_name(text: str) -> str:
    """As a file system takes it; and DuckDB opens no name that has both a backslash and a character of globs."""
    text = text.replace("/", "⁄").replace("\0", "")
    return text.replace("\\", "⧵") if re.search(r"[?*[]", text) else text


def reached(text: str, doors: list[str]) -> list[str]:
    """The doors whose marker a sink shows."""
    return [door for door in doors if marker(door) in text]


def on_a_plain_terminal(text: str, door: str) -> bool:
    """Whether what came through has effect where a command writes nothing but text (line ends apart)."""
    text = _STYLES.sub("", text.replace("\r\n", "\n"))
    near = [text[at : at + 400] for at in _all(text, marker(door))]
    return any(STEERS.search(part) for part in near) or marker(door) + END in text


def on_a_screen(text: str, door: str) -> bool:
    """Whether it has effect among what a full-screen program writes."""
    if any(foreign in text for foreign in _FOREIGN):
        return True
    return marker(door) + END in _OURS.sub("", text)


def _all(text: str, wanted: str) -> list[int]:
    return [found.start() for found in re.finditer(re.escape(wanted), text)]


def in_markdown(text: str, door: str) -> bool:
    """Whether a reader of GitHub's markdown, HTML allowed, sees anything but text or code in what came through."""
    from markdown_it import MarkdownIt

    if any(STEERS.search(text[at : at + 400]) for at in _all(text, marker(door))):
        return True
    for token in MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text):
        if token.type == "html_block" and marker(door) in token.content:
            return True
        for child in token.children or ():
            if child.type in ("html_inline", "image", "link_open") and _evil(child.content + str(child.attrs)):
                return True
    return marker(door) + END in text


def _evil(text: str) -> bool:
    return "evil" in text or "alert" in text or "script" in text


def in_html(check: Callable[[str], None]) -> Callable[[str, str], bool]:
    """Whether a page or picture has an element or attribute that is not ours; ``check`` raises AssertionError then."""

    def had_effect(text: str, door: str) -> bool:
        try:
            check(text)
        except AssertionError:
            return True
        return bool(STEERS.search(text)) or marker(door) + END in text

    return had_effect
