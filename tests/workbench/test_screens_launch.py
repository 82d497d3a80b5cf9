"""The Launch screen: options checked as typed, the preflight, and a real engine started."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, Static

from engine import process
from engine.config import PRESETS, SECTIONS, fields_of, load, resolve
from engine.plan import flops_per_token, plan
from tests.workbench.conftest import Wait
from tests.workbench.folders import make_run
from workbench.app import GptbenchApp
from workbench.runs import launch
from workbench.runs.machine import Machine
from workbench.screens.forecast import forecast
from workbench.screens.options import MAIN, Options, help_of, text_of, value_of
from workbench.widgets.format import duration
from workbench.widgets.preflight import Preflight
from workbench.widgets.table import Table


def preflight(app: GptbenchApp) -> str:
    """What is said, however it is wrapped."""
    return " ".join(str(app.screen.query_one(Preflight).query_one(Static).content).split())


async def to_launch(app: GptbenchApp, pilot: object, until: Wait) -> None:
    await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 3)  # type: ignore[arg-type]
    await pilot.press("a", "l")  # type: ignore[attr-defined]


async def test_the_preflight_says_what_the_plan_implies(shards: Path, until: Wait) -> None:
    app = GptbenchApp(shards.parent / "runs", data_paths=[str(shards)])
    async with app.run_test(size=(80, 24)) as pilot:
        await to_launch(app, pilot, until)
        await until(pilot, lambda: "unique tokens" in preflight(app))
        assert "12.3M" in preflight(app) and "2,000 steps of 8,192" in preflight(app)
        assert "epochs over" in preflight(app)  # the planner's warning
        await pilot.press("p")
        await until(pilot, lambda: "40.6M" in preflight(app))  # seed-40m: 40 560 000 parameters


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ([], ""),
        (["optim.lr=6e-2"], "optim.lr 0.06 is 31× the published optimum for adamw"),
        (["optim.lr=3e-5", "schedule.min_lr=0"], "optim.lr 3e-05 is 1/21 of the published optimum for adamw"),
        (["train.grad_accum=160", "train.max_steps=100"], "a smaller batch makes more steps"),
        (["model.dropout=0.3"], "model.dropout 0.3 at 1.0 epochs: text read so seldom needs none"),
    ],
)
def test_settings_that_the_explainer_would_name_are_warned_of_before_the_run(sets: list[str], said: str) -> None:
    base = ["model.preset=gpt2-124m", "train.micro_batch=64", "train.max_steps=20000"]
    c = resolve(sets=[*base, *sets])
    tokens = c.tokens_per_step * c.train.max_steps
    p = plan(c, train_tokens=tokens, unique_tokens=tokens)
    found = [w for w in forecast(c, p, None).warnings if "published" in w or "dropout" in w]
    assert (len(found) == 1 and said in found[0]) if said else not found


async def test_an_option_is_checked_while_it_is_typed(shards: Path, until: Wait) -> None:
    app = GptbenchApp(shards.parent / "runs", data_paths=[str(shards)])
    async with app.run_test(size=(80, 24)) as pilot:
        await to_launch(app, pilot, until)
        await pilot.press("j", "enter")
        assert "optimiser steps" in str(app.screen.query_one("#edit-help", Static).content)
        assert not app.screen.query_one("#option-help").display  # said once
        assert "esc leaves" in str(app.screen.query_one("#edit-error", Static).content)
        await pilot.press("b", "a", "d")
        assert "must be a whole number, not 'bad'" in str(app.screen.query_one("#edit-error", Static).content)
        await pilot.press("enter")
        assert app.screen.query_one("#edit").display  # a wrong value is not taken
        app.screen.query_one("#edit-value", Input).value = "1e2"
        await pilot.press("enter")
        await until(pilot, lambda: "100 steps of 8,192" in preflight(app))
        await pilot.press("enter")
        await pilot.press("9", "9", "9", "escape")
        assert app.screen.query_one(Table).get_row_at(1)[1].plain == "100"
        await pilot.press("u")
        await until(pilot, lambda: "2,000 steps" in preflight(app))


async def test_a_goal_is_answered_with_a_run_that_reaches_it(shards: Path, until: Wait) -> None:
    app = GptbenchApp(shards.parent / "runs", data_paths=[str(shards)])
    async with app.run_test(size=(120, 36)) as pilot:
        await to_launch(app, pilot, until)
        await until(pilot, lambda: "effective unique tokens" in preflight(app))
        assert "the law was not fitted" in preflight(app)  # 12M parameters: no figure rather than a wrong one
        assert "held-out documents: too few" in preflight(app)
        await pilot.press("t")
        box = app.screen.query_one("#edit-value", Input)
        await until(pilot, lambda: app.focused is box)
        box.value = "soon"
        await pilot.press("enter")
        assert "write a loss such as 3.2" in str(app.screen.query_one("#edit-error", Static).content)
        box.value = "3.3"
        await pilot.press("enter")
        await until(pilot, lambda: "goal 3.3:" in preflight(app))
        assert "shards like these" in preflight(app) and " to " in preflight(app)
        await pilot.press("T")
        await until(pilot, lambda: app.screen.query_one(Table).get_row_at(0)[1].plain == "gpt2-124m")
        proposed = int(app.screen.query_one(Table).get_row_at(1)[1].plain)
        await until(pilot, lambda: f"{proposed:,} steps of 16,384" in preflight(app))


async def test_time_is_told_at_the_pace_of_an_earlier_run_on_this_device(
    shards: Path, until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(shards.parent / "runs", "earlier", steps=50)  # 2e7 FLOPs a token, 2048 tokens a second
    monkeypatch.setattr("workbench.runs.machine.machine", lambda device="auto": Machine("cpu", "test CPU", 16 << 30))
    app = GptbenchApp(shards.parent / "runs", data_paths=[str(shards)])
    async with app.run_test(size=(120, 36)) as pilot:
        await to_launch(app, pilot, until)
        await until(pilot, lambda: "at the pace of earlier" in preflight(app))
        config = Options().config([str(shards)])
        flops = flops_per_token(config.model) * config.tokens_per_step * config.train.max_steps
        assert f"time {duration(flops / (2e7 * 2048))} on test CPU" in preflight(app)
        await pilot.press("t")
        await until(pilot, lambda: app.focused is app.screen.query_one("#edit-value", Input))
        app.screen.query_one("#edit-value", Input).value = "90000h"
        await pilot.press("enter")
        await until(pilot, lambda: "goal 90000h:" in preflight(app) and "final loss" in preflight(app))
        await pilot.press("t")
        await until(pilot, lambda: app.focused is app.screen.query_one("#edit-value", Input))
        app.screen.query_one("#edit-value", Input).value = "8h"  # less than the law's smallest run takes here
        await pilot.press("enter")
        smallest = duration(6 * 2e7 * 3e8 / (2e7 * 2048))
        await until(pilot, lambda: f"300M tokens, takes {smallest} on this device" in " ".join(preflight(app).split()))


async def test_without_shards_it_says_what_to_do_and_starts_nothing(here: Path, until: Wait) -> None:
    app = GptbenchApp(here / "runs")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: "no shards: 1 opens Data" in preflight(app))
        await pilot.press("ctrl+g")
        await until(pilot, lambda: any("no shards are selected" in n.message for n in app._notifications))
        assert not (here / "runs").exists()


async def test_start_launches_a_real_engine_and_shows_it(shards: Path, until: Wait) -> None:
    app = GptbenchApp(shards.parent / "runs", data_paths=[str(shards)])
    async with app.run_test(size=(80, 24)) as pilot:
        await to_launch(app, pilot, until)
        options = app.screen.options  # type: ignore[attr-defined]
        for key, value in {"model.preset": "demo-1m", "train.max_steps": "2", "train.micro_batch": "1"}.items():
            options.put(key, value)
        app.screen.run_name = "from the screen"  # type: ignore[attr-defined]
        await pilot.press("ctrl+g")
        await until(pilot, lambda: app.current_mode == "run")
        assert app.run_dir is not None and app.run_dir.name.startswith("from-the-screen-")
        config = load(app.run_dir / "config.toml")
        assert config.train.max_steps == 2 and len(config.data.paths) == 3
        assert process.alive(app.run_dir)
    # The workbench is closed; its run is not.
    assert launch.wait_for_end(app.run_dir, 120)
    assert (app.run_dir / "events.jsonl").read_text().splitlines()[-1].startswith('{"event": "stop"')


async def test_resolving_a_recipe_shows_progress_and_can_be_stopped(
    shards: Path, until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    import data.choose

    whole, reached = data.choose.choose, threading.Event()

    def held(*args: Any, on_progress: Any, cancelled: Any, **kw: Any) -> data.choose.Choice:
        on_progress("reading documents", 0.5)
        reached.set()
        while not cancelled():  # as long as a large corpus takes
            time.sleep(0.01)
        return whole(*args, on_progress=on_progress, cancelled=cancelled, **kw)

    monkeypatch.setattr(data.choose, "choose", held)
    recipe = shards.parent / "recipe.toml"
    recipe.write_text('deduplicate = "exact"\n')
    (shards / "bad.parquet").unlink()
    app = GptbenchApp(shards.parent / "runs", data_paths=[str(shards)])
    app.recipe = str(recipe)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await to_launch(app, pilot, until)
        line = app.screen.query_one("#starting", Static)
        await pilot.press("ctrl+g")
        await until(pilot, lambda: "reading documents" in str(line.content) and line.display)
        assert reached.is_set() and "esc stops" in str(line.content)
        await pilot.press("escape")
        await until(pilot, lambda: not line.display)
        assert any("no run was made" in n.message for n in app._notifications)
        assert not list((shards.parent / "runs").glob("*"))
        assert app.current_mode == "launch"


def test_every_option_has_its_help_and_comes_back_as_it_was_shown() -> None:
    options = Options({"model.preset": "seed-40m"})
    config = options.config()
    keys = options.keys(every=True)
    assert set(keys) == {f"{s}.{n}" for s in SECTIONS for n in fields_of(s)} - {"data.paths"}
    assert set(MAIN) <= set(keys)
    for key in keys:
        section, _, name = key.partition(".")
        assert help_of(key)
        assert options.check(key, options.shown(config, key)) is None
        again = options.config(changes={key: value_of(key, options.shown(config, key))})
        assert getattr(getattr(again, section), name) == getattr(getattr(config, section), name)


@pytest.mark.parametrize(
    ("key", "text", "wrong"),
    [
        ("optim.lr", "0", "above 0"),
        ("schedule.kind", "cosinus", "known: cosine"),
        ("model.n_embd", "385", "not divisible"),
        ("train.epochs", "", None),
        ("train.epochs", "2", None),
        ("optim.betas", "[0.9]", "two numbers"),
        ("model.preset", "gpt5", "known: demo-1m"),
        ("train.max_steps", "", "whole number"),
    ],
)
def test_values_are_judged_by_the_engines_own_rules(key: str, text: str, wrong: str | None) -> None:
    found = Options().check(key, text)
    assert (found is None) if wrong is None else (found is not None and wrong in found)


def test_presets_follow_one_another_and_changes_by_hand_stay() -> None:
    options = Options({"model.preset": "demo-1m"})
    options.put("optim.lr", "1e-3")
    seen = [options.next_preset() for _ in PRESETS]
    assert sorted(seen) == sorted(PRESETS) and options.config().optim.lr == 1e-3
    options.reset("optim.lr")
    assert options.config().optim.lr == PRESETS["demo-1m"]["optim"]["lr"]
    assert text_of(None) == "" and text_of(True) == "true"


async def test_a_plan_waits_in_the_queue_or_becomes_lines(
    shards: Path, until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.runs import queue
    from workbench.widgets.prompt import Ask, Shown

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(queue, "start", lambda root: None)  # what its process does is tested with the queue
    runs = shards.parent / "runs"
    app = GptbenchApp(runs, data_paths=[str(shards / "a.parquet")])
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 1)
        await pilot.press("a", "l", "M")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("2", "enter")  # one micro-batch cannot be shared out over two machines
        await until(pilot, lambda: any("train.grad_accum=2" in n.message for n in app._notifications))
        assert not runs.exists()
        await pilot.press("j", "j", "j", "j", "enter", "2", "enter", "M")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("2", "enter")
        await until(pilot, lambda: isinstance(app.screen, Shown))
        shown = str(app.screen.query_one("#shown", Static).content)
        assert "torch.distributed.run --nnodes=2" in shown and "sbatch --nodes=2" in shown
        (made,) = runs.iterdir()
        assert load(made / "config.toml").train.grad_accum == 2 and process.read(made) is None
        await pilot.press("escape", "W")
        await until(pilot, lambda: app.current_mode == "runs" and queue.read(runs).waiting)
        (name,) = queue.read(runs).waiting
        await until(pilot, lambda: str(app.screen.query_one(Table).current_key).endswith(name))
