"""What the workbench remembers from one time to the next."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest

from tests.workbench.conftest import Wait
from tests.workbench.folders import NOW, make_run
from workbench import remember
from workbench.app import GptbenchApp
from workbench.screens.run import RunScreen
from workbench.widgets.table import Table


def test_changes_are_merged_and_the_file_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPTBENCH_STATE", str(tmp_path / "new" / "folder"))
    assert remember.load() == {}
    remember.save({"theme": "nord"})
    remember.save({"run": {"x": "tokens"}})
    assert remember.load() == {"theme": "nord", "run": {"x": "tokens"}}
    assert os.listdir(tmp_path / "new" / "folder") == [remember.FILE_NAME]  # noqa: PTH208


def test_without_a_variable_it_lies_in_the_users_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPTBENCH_STATE")
    assert remember.folder() == Path(platformdirs.user_state_dir("gptbench", appauthor=False))


async def test_theme_layout_and_selection_come_back(runs: Path, until: Wait) -> None:
    first = GptbenchApp(runs, clock=lambda: NOW)
    async with first.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: first.screen.query_one(Table).row_count == 3)
        first.theme = "textual-light"
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(first.screen, RunScreen) and first.screen.feed)
        await pilot.press("a", "L", "z", "right_square_bracket", "f")
    again = GptbenchApp(runs, clock=lambda: NOW)
    async with again.run_test(size=(120, 36)) as pilot:
        assert again.theme == "textual-light"
        demo = runs / "demo-1m-20250615-150000"
        await until(pilot, lambda: again.screen.query_one(Table).current_key == str(demo))
        await pilot.press("3")
        await until(pilot, lambda: isinstance(again.screen, RunScreen) and again.screen.feed)
        screen = again.screen
        assert isinstance(screen, RunScreen) and again.run_dir == demo
        assert (screen.view.x, screen.view.smooth, screen.log_y) == ("tokens", 1, True)
        await until(pilot, lambda: screen.has_class("-full") and screen.focused and screen.focused.id == "lr")
        await pilot.press("f", "m", "right_square_bracket", "f")
        assert screen.query_one("#grid-lr").has_class("-alone")
    third = GptbenchApp(runs, open_run=demo, clock=lambda: NOW)
    async with third.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: third.screen.has_class("-grid") and third.screen.has_class("-full"))
        await until(pilot, lambda: third.screen.focused and third.screen.focused.id == "grid-lr")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[1]", b"\xff\x00", b"[" * 100_000),
        b'{"theme": 3, "run": {"x": "sideways", "smooth": 1e9, "log_y": "yes", "pane": {}, "grid": 1}, "opened": []}',
        b'{"theme": "[red]", "run": {"x": [], "grid": true, "alone": [1]}, "selected": "a", "opened": {"x": 5}}',
    ],
)
async def test_a_corrupt_file_is_ignored(here: Path, until: Wait, content: bytes) -> None:
    path = remember.folder() / remember.FILE_NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    run_dir = make_run(here / "runs", steps=5)
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.feed)
        assert isinstance(app.screen, RunScreen)
        assert app.theme == "textual-dark" and app.screen.view.x == "step" and not app.screen.log_y


async def test_a_state_folder_that_cannot_be_written_stops_nothing(
    here: Path, until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "file").write_text("")
    monkeypatch.setenv("GPTBENCH_STATE", str(here / "file" / "below"))
    app = GptbenchApp(make_run(here / "runs", steps=5).parent, clock=lambda: NOW)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.screen.query_one(Table).row_count == 1)
        app.theme = "textual-light"
    assert remember.load() == {} and app.return_code in (0, None)
