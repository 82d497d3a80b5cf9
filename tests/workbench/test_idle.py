"""What a workbench that is merely open does: nothing, where nothing is new; and what it lets go of."""

from __future__ import annotations

import gc
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.message import Message

from engine import process
from engine.events import EventReader, EventWriter
from tests.workbench.conftest import Wait
from tests.workbench.folders import NOW, make_run
from workbench.app import GptbenchApp
from workbench.runs.follow import Follower
from workbench.runs.history import History
from workbench.screens import run as run_screen
from workbench.screens.feed import Evaluated, FigureDrawn, MachineSeen, RunFeed
from workbench.screens.figures import Request
from workbench.screens.messages import StatusChanged
from workbench.widgets.plateau_pane import PlateauPane
from workbench.widgets.run_header import RunHeader
from workbench.widgets.system_pane import Gauge, SystemPane


def looks(feed: RunFeed, count: int) -> Callable[[], bool]:
    """Lets the feed look so often at its run."""
    left = iter([False] * count)
    return lambda: next(left, True)


def step(run_dir: Path, number: int) -> None:
    writer = EventWriter(run_dir)
    writer.write("step", step=number, loss=2.0, lr=1e-3, tokens=1, epoch=3.0, step_time=0.5, tokens_per_s=5.0)
    writer.close()


def test_a_run_that_says_nothing_new_is_told_of_once(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, steps=100)
    process.write(run_dir, os.getpid())
    step(run_dir, 101)  # without memory, MFU and gradient norm: unknown figures are no news either
    writer = EventWriter(run_dir)
    writer.write("system", gpu_utilisation=None, cpu_percent=90.0, memory_host=5, memory_used=None)
    writer.close()
    posted: list[Message] = []
    feed = RunFeed(run_dir, posted.append, 0.001, lambda: NOW)
    feed.want("loss", Request("loss", 60, 20))
    feed.loop(looks(feed, 40))
    status = [message for message in posted if isinstance(message, StatusChanged)]
    assert len(status) == 1 and math.isnan(status[0].status.mfu) and status[0].status.state == "running"
    assert [type(message) for message in posted].count(MachineSeen) == 1
    assert [type(message) for message in posted].count(FigureDrawn) == 1


def test_what_events_change_is_posted_at_once_and_what_was_asked_for_as_soon_as_it_is_drawn(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, steps=100)
    drawn: list[tuple[str, list[int]]] = []  # charts as they come, and of which versions all that are drawn then are

    def post(message: Message) -> None:
        if isinstance(message, FigureDrawn):
            drawn.append((message.name, [version for _, version, _ in feed._drawn.values()]))

    feed = RunFeed(run_dir, post, 0.001, lambda: NOW)
    rounds = 0

    def look() -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            for name in ("loss", "lr"):
                feed.want(name, Request(name, 60, 20))
        elif rounds == 4:
            step(run_dir, 101)
        elif rounds == 6:
            feed.want("loss", Request("loss", 50, 20))
        return rounds > 7

    feed.loop(look)
    old = drawn[0][1][0]
    asked = [("loss", [old]), ("lr", [old, old])]  # the first is posted before the second is drawn
    told = [("loss", [old + 1, old + 1]), ("lr", [old + 1, old + 1])]  # none before all are of the new event
    assert drawn == [*asked, *told, ("loss", [old + 1, old + 1])]


def test_death_is_seen_although_no_event_tells_of_it(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, steps=100)
    process.write(run_dir, os.getpid())
    states: list[str] = []

    def post(message: Message) -> None:
        if isinstance(message, StatusChanged):
            states.append(message.status.state)
            (run_dir / process.FILE_NAME).unlink(missing_ok=True)

    feed = RunFeed(run_dir, post, 0.001, lambda: NOW)
    feed.loop(looks(feed, 40))
    assert states == ["running", "dead"]


def test_events_are_opened_only_where_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = make_run(tmp_path, steps=100)
    follower, opened = Follower(run_dir), []
    real = EventReader.read
    monkeypatch.setattr(EventReader, "read", lambda self, most=None: opened.append(most) or real(self, most))
    assert follower.poll(1 << 20) and not follower.poll(1 << 20)
    opened.clear()
    assert not any(follower.poll(1 << 20) for _ in range(10)) and not opened
    step(run_dir, 101)
    assert follower.poll(1 << 20) and follower.history.step == 101
    with (run_dir / "events.jsonl").open("a") as file:  # half a line is nothing new, its other half is
        file.write('{"event": "step", "time": 1.0, "ste')
    assert not follower.poll(1 << 20) and not follower.poll(1 << 20)
    with (run_dir / "events.jsonl").open("a") as file:
        file.write('p": 102, "loss": 2.0}\n')
    assert follower.poll(1 << 20) and follower.history.step == 102
    (run_dir / "events.jsonl").unlink()
    assert not follower.poll(1 << 20)
    step(run_dir, 7)  # another file in its place
    assert follower.poll(1 << 20) and follower.history.step == 7


def test_lines_that_are_no_events_do_not_end_the_reading(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, steps=10)
    with (run_dir / "events.jsonl").open("a") as file:
        file.write("x" * 1000 + "\n" * 3_000_000)
    step(run_dir, 11)
    follower = Follower(run_dir)
    for _ in range(60):
        follower.poll(1 << 16)
    assert follower.history.step == 11


async def test_an_open_run_that_is_silent_paints_nothing(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=300)
    process.write(run_dir, os.getpid())
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(160, 50)) as pilot:
        pane = app.screen.query_one(PlateauPane)
        await until(pilot, lambda: pane.diagnosis)
        painted: list[object] = []
        app._display = lambda screen, renderable: painted.append(renderable)  # type: ignore[method-assign]
        for _ in range(20):  # a busy machine takes its time to draw it all
            painted.clear()
            await pilot.pause(0.6)  # a dozen looks
            if not painted:
                break
        assert not painted
        step(run_dir, 301)
        header = app.screen.query_one(RunHeader)
        await until(pilot, lambda: "301/800" in header.render().plain)
        await until(pilot, lambda: painted)


async def test_gauges_of_as_many_lines_need_no_layout(here: Path, until: Wait) -> None:
    app = GptbenchApp(here / "runs", open_run=make_run(here / "runs"), clock=lambda: NOW)
    async with app.run_test(size=(160, 50)) as pilot:
        pane = app.screen.query_one(SystemPane)
        await until(pilot, lambda: pane.gauges)
        await pilot.pause(0.3)
        laid_out: list[object] = []
        app.screen.screen_layout_refresh_signal.subscribe(app.screen, laid_out.append)
        pane.show([Gauge("disk", "1 GiB free of 2 GiB")])
        await until(pilot, lambda: laid_out)  # fewer lines than before
        laid_out.clear()
        pane.show([Gauge("disk", "0 GiB free of 2 GiB")])
        await until(pilot, lambda: "0 GiB free" in str(pane.query_one("Sheet").render()))
        await pilot.pause(0.2)
        assert not laid_out


async def test_an_explained_run_leaves_no_copy_of_its_history(here: Path, until: Wait) -> None:
    run_dir = make_run(here / "runs", steps=300)
    app = GptbenchApp(here / "runs", open_run=run_dir, clock=lambda: NOW)
    async with app.run_test(size=(120, 36)) as pilot:
        screen = app.screen
        assert isinstance(screen, run_screen.RunScreen)
        pane = screen.query_one(PlateauPane)
        for more in range(3):
            pane.diagnosis = None
            writer = EventWriter(run_dir)
            writer.write("eval", step=301 + more, split="heldout", loss=2.0, se=0.01, documents=3, tokens=5)
            writer.close()
            screen.action_explain()
            await until(pilot, lambda: pane.diagnosis)
        await pilot.pause(0.3)
        gc.collect()
        assert screen.feed is not None
        copies = [one for one in gc.get_objects() if type(one) is History and one.step >= 301]
        assert len(copies) == 1  # the feed's own


def test_evaluations_in_quick_succession_are_copied_once_and_when_asked_for(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, steps=100)
    told: list[int] = []

    def post(message: Message) -> None:
        if isinstance(message, Evaluated):
            told.append(message.history[0].step)

    feed = RunFeed(run_dir, post, 0.001, lambda: NOW)
    rounds = 0

    def look() -> bool:
        nonlocal rounds
        rounds += 1
        if 10 < rounds < 16:
            writer = EventWriter(run_dir)
            writer.write("eval", step=100 + rounds, split="heldout", loss=2.0, se=0.01, documents=3, tokens=5)
            writer.close()
        elif rounds == 30:
            feed.explain()
        return rounds > 40

    feed.loop(look)
    assert told == [100, 115]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_tables_that_are_freed_between_others_go_back_to_the_system() -> None:
    script = """
import numpy as np
from workbench import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def tables():
    np.ones(3 << 20)  # 24 MiB: from now on glibc by itself would keep what is smaller
    large, small = [], []
    for _ in range(8):
        large.append(np.ones(1 << 19))
        small.append(np.ones(1 << 10))
    return small

memory.keep_little()
before = resident()
kept = tables()
print(resident() - before)
"""
    left = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert int(left) < 8 << 20  # of 32 MiB


def test_who_comes_back_is_told_the_state_at_once(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path, steps=100)
    states: list[str] = []
    feed = RunFeed(run_dir, lambda message: None, 30.0, lambda: NOW)  # the next look by itself is far away

    def look() -> bool:
        states.append(feed._state)
        if len(states) == 2:
            process.write(run_dir, os.getpid())
            feed.pause(False)
        return len(states) > 3

    feed.loop(look)
    assert states == ["", "dead", "running", "running"]
