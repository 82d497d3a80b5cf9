"""What the terminal is sent, played on a terminal of the test's own: it must show what the screen holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import split_graphemes
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate
from textual.app import App
from textual.pilot import Pilot
from textual.strip import Strip

from tests.workbench.conftest import Wait
from tests.workbench.folders import events
from workbench.app import GptbenchApp
from workbench.screens.help import HelpScreen
from workbench.screens.repaint import FrugalCompositor, Shown, cells, written
from workbench.widgets.chart import ChartView
from workbench.widgets.run_header import RunHeader

_PIECE = re.compile(r"\x1b\[(\d+);(\d+)H|\x1b\[([\d;]*)m|\x1b\][^\a\x1b]*(?:\a|\x1b\\)|(\n)|([^\x1b\n]+)")


class Played:
    """A terminal: cells of (text, style codes)."""

    def __init__(self) -> None:
        self.grid: dict[tuple[int, int], tuple[str, str]] = {}
        self.bytes = 0

    def play(self, sequences: str) -> None:
        self.bytes += len(sequences.encode())
        y = x = 0
        style = ""
        for row, column, codes, newline, text in _PIECE.findall(sequences):
            if row:
                y, x = int(row) - 1, int(column) - 1
            elif text:
                for begin, end, size in split_graphemes(text)[0]:
                    self.grid[y, x] = (text[begin:end], style)
                    for more in range(1, size):
                        self.grid[y, x + more] = ("", style)
                    x += size
            elif not newline:
                style = "" if codes == "0" else codes

    def differs(self, app: App[None]) -> list[str]:
        """Cells that do not show what the screen should, colours as well."""
        wanted = Played()
        for y, strip in enumerate(app.screen._compositor.render_strips()):
            wanted.play(f"\x1b[{y + 1};1H" + written(cells(strip), app.console))
        size = app.size
        seen = {at: cell for at, cell in self.grid.items() if at[0] < size.height and at[1] < size.width}
        if seen == wanted.grid:
            return []
        return [
            f"{at}: {seen.get(at)} for {wanted.grid.get(at)}"
            for at in sorted({*seen, *wanted.grid})
            if seen.get(at) != wanted.grid.get(at)
        ]


def played(app: App[None], monkeypatch: pytest.MonkeyPatch) -> Played:
    """A terminal that is sent what a real one would be."""
    terminal = Played()

    def display(screen: object, update: Any) -> None:
        if update is not None and app._batch_count == 0 and screen is app.screen:
            terminal.play(update.render_segments(app.console))

    monkeypatch.setattr(app, "_display", display)

    # A style keeps the codes of the first colour system that it was written in, and some are shared by the process: a
    # test of sixteen colours leaves them behind.
    def anew(style: Style, text: str, color_system: Any) -> str:
        codes = Strip.render_ansi(style, color_system)
        return f"\x1b[{codes}m{text}\x1b[0m" if codes else text

    monkeypatch.setattr(Strip, "render_style", staticmethod(anew))
    return terminal


async def test_the_terminal_shows_what_the_screen_holds(
    runs: Path, until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = runs / "demo-1m-20250615-150000"
    app = GptbenchApp(runs, open_run=run_dir)
    terminal = played(app, monkeypatch)

    async def settled(pilot: Pilot[None], condition: Callable[[], object]) -> None:
        await until(pilot, condition)
        try:
            await until(pilot, lambda: not terminal.differs(app))
        except AssertionError:
            raise AssertionError(f"{app.screen}: {'; '.join(terminal.differs(app)[:40])}") from None

    async with app.run_test(size=(120, 36)) as pilot:
        header = app.screen.query_one(RunHeader)
        await settled(pilot, lambda: header.status and app.screen.query_one("#loss", ChartView).text())
        more = [e for e in events(640, 800, 1024, 1.75e9, True) if e["event"] == "step" and int(str(e["step"])) > 600]
        before, told = terminal.bytes, 0
        for event in more[:20]:
            with (run_dir / "events.jsonl").open("a") as file:
                file.write(str(event).replace("'", '"') + "\n")
            step = event["step"]
            await until(pilot, lambda step=step: header.status and header.status.step == step)
            told += 1
        await settled(pilot, lambda: True)
        live = (terminal.bytes - before) / told
        plain = Played()
        plain.play("".join(written(cells(strip), app.console) for strip in app.screen._compositor.render_strips()))
        assert live < plain.bytes / 10  # a step changes some cells, not the screen
        for keys in (["tab"], ["m"], ["m"], ["4"], ["3"], ["+"], ["h"], ["0"]):
            await pilot.press(*keys)
            await settled(pilot, lambda: True)
        await pilot.press("question_mark")
        await settled(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("escape")
        await settled(pilot, lambda: not isinstance(app.screen, HelpScreen))
        await pilot.resize_terminal(80, 24)
        await settled(pilot, lambda: app.size.width == 80)


def test_only_cells_that_differ_are_spans() -> None:
    shown, style, other = Shown(), Style.parse("red"), Style.parse("blue")
    row = cells(Strip([Segment("step 1,000", style), Segment(" " * 30, style), Segment("loss 3.1", other)]))
    assert shown.take(0, 0, row) == [(0, len(row))]
    assert shown.take(0, 0, row) == []
    changed = list(row)
    changed[9], changed[47] = ("1", style), ("2", other)
    assert shown.take(0, 0, changed) == [(9, 10), (47, 48)]
    near = list(changed)
    near[5], near[9] = ("2", style), ("0", style)
    assert shown.take(0, 0, near) == [(5, 10)]  # a short gap is written again
    repainted = [(text, other) for text, _ in near]
    assert shown.take(0, 0, repainted) == [(0, 40)]  # a colour counts, too


def test_a_wide_character_is_never_cut_and_an_uncertain_row_is_one_piece() -> None:
    shown = Shown()
    row = cells(Strip([Segment("한글 text")]))
    assert [text for text, _ in row[:5]] == ["한", "", "글", "", " "]
    shown.take(0, 0, row)
    assert shown.take(0, 0, [*row[:2], ("국", None), ("", None), *row[4:]]) == [(2, 4)]
    family = cells(Strip([Segment("👨‍👩‍👧 of 3")]))
    shown.take(1, 0, family)
    assert shown.take(1, 0, [*family[:-1], ("4", None)]) == [(0, len(family))]


def test_textual_still_calls_what_is_overridden() -> None:
    assert callable(FrugalCompositor().render_partial_update)
    assert {"chops", "spans", "chop_ends"} <= set(ChopsUpdate([{}], [(0, 0, 1)], [[]]).__dict__)
