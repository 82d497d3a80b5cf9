"""The frame: screens by keys, one table of keys, light start, and a terminal that goes away."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from textual.widget import Widget
from textual.widgets import Footer, Static
from textual.widgets._footer import FooterKey

from tests.workbench.conftest import Wait
from tests.workbench.folders import NOW
from workbench.app import GptbenchApp
from workbench.screens.help import HelpScreen
from workbench.screens.keys import EVERYWHERE, MOVEMENT, SCREENS
from workbench.widgets.document_table import DocumentTable
from workbench.widgets.document_view import DocumentView
from workbench.widgets.key_bar import KeyBar
from workbench.widgets.log_view import LogView
from workbench.widgets.plateau_pane import PlateauPane
from workbench.widgets.preflight import Preflight
from workbench.widgets.samples_pane import SamplesPane
from workbench.widgets.side_by_side import SideBySide
from workbench.widgets.system_pane import SystemPane
from workbench.widgets.table import Table


async def test_digits_open_the_four_screens_and_each_keeps_its_state(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs, clock=lambda: NOW)
    async with app.run_test(size=(80, 24)) as pilot:
        assert app.current_mode == "runs"
        for key, mode in (("1", "data"), ("2", "launch"), ("3", "run"), ("4", "runs")):
            await pilot.press(key)
            assert app.current_mode == mode
        await pilot.press("2", "a", "4", "2")
        assert app.screen.every  # type: ignore[attr-defined]


async def test_a_digit_typed_into_a_field_stays_there(runs: Path) -> None:
    app = GptbenchApp(runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("slash", "1", "2")
        assert app.current_mode == "runs"
        assert app.screen.query_one("#filter").value == "12"  # type: ignore[attr-defined]


async def test_help_lists_every_key_of_the_table(runs: Path, until: Wait) -> None:
    app = GptbenchApp(runs)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        sheet = app.screen.sheet().plain
        for key in (*EVERYWHERE, *(k for keys in SCREENS.values() for k in keys)):
            assert f"{key.display} " in sheet and key.help in sheet
        body = app.screen.query_one("#help")
        await pilot.press("G")
        await until(pilot, lambda: body.scroll_y == body.max_scroll_y > 0)
        await pilot.press("ctrl+u")
        await until(pilot, lambda: 0 < body.scroll_y < body.max_scroll_y)
        await pilot.press("escape")
        assert not isinstance(app.screen, HelpScreen)


@pytest.mark.parametrize(
    "pane", [DocumentTable, DocumentView, LogView, PlateauPane, Preflight, SamplesPane, SideBySide, SystemPane, Table]
)
def test_every_pane_knows_the_keys_of_moving(pane: type[Widget]) -> None:
    wanted = {key for row in MOVEMENT[:3] for key in row.key.split(",")}
    assert wanted <= set(pane._merge_bindings().key_to_bindings)


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (50, 16)])
async def test_what_helps_further_lines_hold_stands_below_its_text(runs: Path, size: tuple[int, int]) -> None:
    app = GptbenchApp(runs)
    async with app.run_test(size=size) as pilot:
        await pilot.press("question_mark")
        await pilot.pause(0.3)
        sheet = app.screen.query_one("#help-sheet", Static)
        assert sheet.size.height == len(str(sheet.content).split("\n"))  # nothing is wrapped a second time


@pytest.mark.parametrize("mode", ["data", "launch", "run", "runs"])
async def test_every_footer_fits_into_80_columns(runs: Path, until: Wait, mode: str) -> None:
    app = GptbenchApp(runs)
    async with app.run_test(size=(80, 24)) as pilot:
        app.action_show_mode(mode)
        await until(pilot, lambda: {"?", "q"} <= {key.key_display for key in app.screen.query(FooterKey)})
        keys = list(app.screen.query_one(Footer).query(FooterKey))
        await until(pilot, lambda: all(key.region.right > 0 for key in keys))
        assert max(key.region.right for key in keys) <= 80


@pytest.mark.parametrize("mode", ["data", "launch", "run", "runs"])
async def test_every_key_of_the_table_is_bound_and_has_its_action(runs: Path, mode: str) -> None:
    app = GptbenchApp(runs)
    async with app.run_test(size=(80, 24)) as pilot:
        app.action_show_mode(mode)
        await pilot.pause()
        for key in SCREENS[mode]:
            name = key.action.partition("(")[0]
            assert hasattr(app.screen, f"action_{name}"), key
            assert all(k in app.screen._bindings.key_to_bindings for k in key.key.split(","))


async def test_the_palette_offers_the_keys_of_the_screen(runs: Path) -> None:
    app = GptbenchApp(runs)
    async with app.run_test(size=(80, 24)):
        titles = {command.title for command in app.get_system_commands(app.screen)}
        assert {"Runs: stop", "Runs: filter", "Show Data", "Help", "Theme", "Quit"} <= titles


async def test_over_ssh_nothing_is_animated_and_looks_are_rarer(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPTBENCH_POLL")
    local = GptbenchApp(here)
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")
    remote = GptbenchApp(here)
    assert local.poll_seconds == 0.5 and remote.poll_seconds == 2.0
    assert local.animation_level == "full" and remote.animation_level == "none"
    monkeypatch.setenv("GPTBENCH_POLL", "1")
    assert GptbenchApp(here).poll_seconds == 1.0


async def test_without_colour_nothing_is_coloured(runs: Path, monkeypatch: pytest.MonkeyPatch, until: Wait) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = GptbenchApp(runs, open_run=runs / "demo-1m-20250615-150000")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "loss" in app.screen.query_one("#loss").text())  # type: ignore[attr-defined]
        for strip in app.screen._compositor.render_strips():
            for segment in strip.apply_filter(app._filters[-1], app.screen.background_colors[0]):
                if segment.style is not None and segment.style.color is not None:
                    red, green, blue = segment.style.color.get_truecolor()
                    assert red == green == blue


_WALK = """
import asyncio, sys
from pathlib import Path
from workbench.app import GptbenchApp
early = {m for m in ("torch", "duckdb", "pyarrow", "plotext", "numpy", "tiktoken") if m in sys.modules}
async def walk():
    app = GptbenchApp(Path(sys.argv[1]), open_run=Path(sys.argv[2]), data_paths=[sys.argv[3]])
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause(1.0)
        for key in "1", "s", "enter", "t", "2", "4", "3", "x":
            await pilot.press(key)
            await pilot.pause(0.7)
asyncio.run(walk())
print(sorted(early), sorted(m for m in ("torch", "duckdb", "plotext", "tiktoken") if m in sys.modules))
"""


def test_no_screen_imports_torch_and_the_start_imports_nothing_heavy(runs: Path, shards: Path) -> None:
    run = runs / "demo-1m-20250615-150000"
    command = [sys.executable, "-c", _WALK, str(runs), str(run), str(shards)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip()
    assert shown == "[] ['duckdb', 'plotext', 'tiktoken']"


_OPEN = """
import signal, sys
from pathlib import Path
if "ignore" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
from workbench.app import GptbenchApp
app = GptbenchApp(Path(sys.argv[1]))
if "stuck" in sys.argv:
    import threading
    app.call_later(lambda: app.run_worker(threading.Event().wait, thread=True))
app.run()
"""


def open_in_terminal(runs: Path, how: str) -> tuple[int, int]:
    """The workbench in a pseudo-terminal of its own, painted: its pid and the terminal's other end."""
    pid, terminal, _ = in_terminal("-c", _OPEN, str(runs), how)
    return pid, terminal


def in_terminal(*arguments: str) -> tuple[int, int, bytes]:
    """Python in a pseudo-terminal, once it has painted the runs: its pid, the other end, and what it wrote so far."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, *arguments])
    shown, deadline = b"", time.monotonic() + 30
    while b"demo-1m" not in shown and time.monotonic() < deadline:
        shown += os.read(terminal, 65536)
    assert b"demo-1m" in shown
    return pid, terminal, shown


def ends(pid: int, terminal: int | None = None, seconds: float = 20) -> bool:
    """Whether the process ends by itself; it is killed if not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if terminal is not None and select.select([terminal], [], [], 0.1)[0]:
            try:
                os.read(terminal, 65536)
            except OSError:  # the end of a closed pseudo-terminal
                terminal = None
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


@pytest.mark.parametrize("how", ["ignore", "default"])
def test_it_ends_when_its_terminal_is_gone(runs: Path, how: str) -> None:
    """Even where the signal is ignored (nohup): it must not spin on the end of the input."""
    pid, terminal = open_in_terminal(runs, how)
    os.close(terminal)
    assert ends(pid)


@pytest.mark.parametrize("flags", [["--no-mouse"], []])
def test_without_the_mouse_the_terminal_keeps_it(runs: Path, flags: list[str]) -> None:
    main = "import sys; from workbench.cli import main; sys.exit(main())"
    pid, terminal, shown = in_terminal("-c", main, "--runs", str(runs), *flags)
    reported = [code for code in (b"?1000h", b"?1003h", b"?1006h", b"?1015h") if code in shown]
    assert bool(reported) == (not flags)
    os.write(terminal, b"q")
    assert ends(pid, terminal)
    os.close(terminal)


def test_quitting_ends_the_process_although_threads_follow_a_run_on_a_hidden_screen(runs: Path) -> None:
    pid, terminal = open_in_terminal(runs, "default")
    for key in (b"\r", b"4", b"q"):
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            if select.select([terminal], [], [], 0.1)[0]:
                os.read(terminal, 65536)
        os.write(terminal, key)
    assert ends(pid, terminal)
    os.close(terminal)


def test_a_thread_that_never_ends_does_not_keep_the_process(runs: Path) -> None:
    pid, terminal = open_in_terminal(runs, "stuck")
    os.write(terminal, b"q")
    assert ends(pid, terminal)
    os.close(terminal)


async def test_moving_the_focus_makes_the_footer_anew_only_where_keys_differ_and_keeps_nothing(
    runs: Path, until: Wait
) -> None:
    app = GptbenchApp(runs, open_run=runs / "demo-1m-20250615-150000")
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: len(app.screen.query(FooterKey)) > 4)
        bar = app.screen.query_one(KeyBar)
        for _ in range(12):
            await pilot.press("tab")
        await until(pilot, lambda: all(key.is_attached for key in bar.query(FooterKey)))
        watching = getattr(bar, "__watchers", {}).get("compact", [])
        assert len(watching) <= len(bar.query(FooterKey))
        key = bar.query(FooterKey).first()
        app.screen.refresh_bindings()
        await pilot.pause(0.2)
        assert bar.query(FooterKey).first() is key
