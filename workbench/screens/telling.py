"""How the workbench reaches the person beyond the screen: notices, the bell, the desktop, the clipboard."""

from __future__ import annotations

import base64
import os
import time
from typing import Any

from textual import on
from textual.app import App

from workbench.screens.lookout import Told
from workbench.text import plain

TOLD_ONCE = 60.0  # seconds in which the same is not told twice: by the open run's screen, and by who looks at all
NOTIFY = ("here", "bell", "desktop")  # how what becomes of runs is told


class TellingApp(App[None]):
    """An app that tells what becomes of runs, as loud as was asked for; ``remember`` keeps how loud that is."""

    memory: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}  # what was told, and when

    def remember(self, name: str, value: Any) -> None:
        """Remember a value (JSON) for the next time."""
        raise NotImplementedError

    @property
    def notify_level(self) -> str:
        """How a person wants to be told what becomes of runs, one of ``NOTIFY``: $GPTBENCH_NOTIFY, else as chosen."""
        asked = os.environ.get("GPTBENCH_NOTIFY", "")
        if asked:
            return asked if asked in NOTIFY else "here" if asked == "0" else "desktop"
        level = self.memory.get("notify")
        return level if level in NOTIFY else "here"

    def action_notifications(self) -> None:
        """The next way to tell what becomes of runs; it is remembered."""
        if os.environ.get("GPTBENCH_NOTIFY"):
            self.notify("$GPTBENCH_NOTIFY says how runs are told of", severity="error", markup=False)
            return
        self.remember("notify", NOTIFY[(NOTIFY.index(self.notify_level) + 1) % len(NOTIFY)])
        way = {"here": "here only", "bell": "here and by the bell", "desktop": "here, by the bell and on the desktop"}
        self.notify(
            f"what stops, stalls, loses its loss or goes flat is told {way[self.notify_level]}", markup=False, timeout=4
        )

    @on(Told)
    def _told_of(self, message: Told) -> None:
        self.tell(message.text, wrong=message.wrong)

    def tell(self, text: str, *, wrong: bool) -> None:
        """Say what became of a run, once, as loud as was asked for; ``text`` may come from files."""
        now = time.monotonic()
        if now < self._told.get(text, -TOLD_ONCE) + TOLD_ONCE:
            return
        self._told[text] = now
        self.notify(plain(text), severity="error" if wrong else "information", markup=False, timeout=30 if wrong else 8)
        if self.notify_level != "here":
            self.alert(text)

    def alert(self, text: str) -> None:
        """Ring the bell, and, where that is wanted, have the terminal notify the desktop (OSC 9 and OSC 777; others
        skip what they do not know). tmux hands them on where ``allow-passthrough`` is on."""
        self.bell()
        if self._driver is None or self.is_web or self.notify_level != "desktop":
            return
        shown = plain(text)[:200]
        for code in (f"\x1b]9;{shown}\x07", f"\x1b]777;notify;gptbench;{shown.replace(';', ',')}\x07"):
            self._driver.write(_through_tmux(code) if os.environ.get("TMUX") else code)

    def copy_to_clipboard(self, text: str) -> None:
        """As Textual does, by OSC 52; in tmux a second time, past it: its default ``set-clipboard external`` drops what
        programs send, and ``allow-passthrough on`` lets this through."""
        super().copy_to_clipboard(text)
        if os.environ.get("TMUX") and self._driver is not None and not self.is_web:
            self._driver.write(_through_tmux(f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07"))


def _through_tmux(code: str) -> str:
    """A control sequence wrapped so that tmux hands it on to the terminal it runs in."""
    return "\x1bPtmux;" + code.replace("\x1b", "\x1b\x1b") + "\x1b\\"
