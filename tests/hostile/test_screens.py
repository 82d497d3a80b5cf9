"""The workbench on a terminal of its own: every screen, pane and question that shows what was planted, what it copies
to the clipboard, and what it tells the desktop."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.programs import GPTBENCH, Terminal
from tests.hostile.payloads import PAYLOADS, STEERS, on_a_screen, reached
from tests.hostile.table import Counted
from tests.hostile.world import DOORS, World, build

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
doors = list(DOORS)

# Keys on each screen, in order; "~" in front types a text, PASTE the hostile one. After each the screen is waited for.
PASTE = "paste"
DATA = (
    *("\r", "t", "w", "w", "t", "/", "~words\r", "n", "f", "~text ~ plain\r", "S", "~score desc\r", "\x1b"),
    *("c", "h", "\x1b", "s", "x", "~FROM docs", "\x12", "\x1b", "\x1b", "d", "\x1b", "\x1b", "\x1b"),
    *("r", "\x0c", "~w/recipe.toml\r", "p", "\x1b", "\x1b", "\x1b", "a", "l"),
)
LAUNCH = ("a", "\r", "\x1b", "j", "\r", PASTE, "\x1b", "G", "\r", PASTE, "\r")
RUN = (
    *("]", "]", "]", "]", "]", "m", "m", "x", "e", "y", "Y", "b", "\x1b", "F", "\x1b", "3", "p", "\x1b", "f", "f"),
    *("/", "~zz\r", "n", "\x1b", "3"),
)
RUNS = (
    *("/", "~zz\r", "N", "\x1b", "R", "\x1b", "D", "\x1b", "b", "\x1b", "y", "Y", "w", "\x1b"),
    *("g", " ", "j", " ", "c", "\x1b", "\x1b", "?", "\x1b", "\x10", "~run", "\x1b"),
)


class Session:
    """A workbench that is walked through; what each screen brought is told apart."""

    def __init__(self, terminal: Terminal, pasted: str) -> None:
        self.terminal = terminal
        self._pasted = f"\x1b[200~{pasted}\x1b[201~"
        self.brought: dict[str, str] = {}
        self._seen = 0

    def walk(self, screen: str, keys: Sequence[str]) -> None:
        """Press keys; all that comes is that screen's."""
        for key in keys:
            if key.startswith("~"):  # into a prompt: it is there by now, and blinks every half second
                self.terminal.settle(0.4, 10)
            self.terminal.press(self._pasted if key == PASTE else key.removeprefix("~"))
            if key == "\x1b":  # alone: with the next key it would be another one
                time.sleep(0.25)
            self.terminal.settle(0.2, 6)
            assert self.terminal.process.poll() is None, (screen, key, self.terminal.text[-1500:])
        written = self.terminal.output
        self.brought[screen] = self.brought.get(screen, "") + written[self._seen :]
        self._seen = len(written)


def watched(w: World) -> Path:
    """Let the planted run seem to be running, on another host: its end is told on the desktop."""
    lines = (w.run / "events.jsonl").read_bytes().splitlines(keepends=True)
    (w.run / "events.jsonl").write_bytes(b"".join(lines[:-1]))
    return w.run


@pytest.mark.parametrize("name", PAYLOADS, ids=str)
def test_every_screen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: Counted) -> None:
    w = build(tmp_path / "w", PAYLOADS[name])
    run = watched(w)
    monkeypatch.setenv("GPTBENCH_NOTIFY", "1")
    opened = [*GPTBENCH, "--runs", str(w.runs), "--data", str(w.shards)]
    with Terminal(opened, tmp_path, size=(200, 60)) as terminal:
        session = Session(terminal, w.text("ar"))
        terminal.wait_for("qzfiq")
        session.walk("Data", DATA)
        session.walk("Launch", ["2", *LAUNCH])
        session.walk("Runs", ["4", "G", "g", "/", "~name=elsewhere\r"])
        session.walk("Run", ["\r", "s"])  # of another host, without a step so far
        session.walk("Runs", ["4", "\x1b", "/", "~name=imported\r"])
        session.walk("Run", ["\r", "x"])
        session.walk("Runs", ["4", "\x1b", "/", "~name=broken\r", "b", "\x1b", "\x1b", "/", "~running step=300\r"])
        session.walk("Run", ["\r", *RUN])
        with (run / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": "stop", "time": time.time(), "step": 300, "reason": "failed",
                                   "text": w.text("st")}) + "\n")  # fmt: skip
        (run / "process.json").unlink()
        terminal.wait_for("\x1b]777;notify;", raw=True)
        session.walk("Run", ["x"])
        session.walk("Runs", ["4", "\x1b", *RUNS])
        terminal.press("q")
        assert terminal.ended() == 0, terminal.text[-2000:]
        assert "Traceback" not in terminal.text and "leaked" not in terminal.text, terminal.text[-2000:]
    for screen, written in session.brought.items():
        for code, rest in re.findall(r"\x1b\](\d+);([^\x07\x1b]*)", written):
            if code == "52":
                copied = base64.b64decode(rest.partition(";")[2]).decode("utf-8", "replace")
                for door in reached(copied, doors):
                    counted.add(door, "clipboard", bool(STEERS.search(copied)), (name, screen, copied))
            elif code in ("9", "777"):
                for door in reached(rest, doors):
                    counted.add(door, "notification", bool(STEERS.search(rest)), (name, screen, rest))
        for door in reached(written, doors):
            counted.add(door, screen, on_a_screen(written, door), (name, _where(written, door)))


def _where(written: str, door: str) -> str:
    at = written.find(f"qz{door}qzz")
    return repr(written[max(0, at - 300) : at + 300])
