"""What the Run screen shows of a history: figures, and the header above them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from workbench.plot import SKY
from workbench.runs.history import History
from workbench.screens.figures import FIGURES, Axes, Request, View, draw, horizon, status
from workbench.widgets.run_header import RunHeader, RunStatus


def test_smoothing_is_of_raw_values_and_never_of_the_rate() -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, 4000)
    history = History.of(
        {"event": "step", "step": n + 1, "loss": 3 + noise[n], "lr": 1e-3, "grad_norm": 1.0} for n in range(4000)
    )

    def dots(figure: str, smooth: int) -> int:
        rows = draw(Request(figure, 100, 30, view=View(smooth=smooth)), history, Axes())
        return sum("⠀" < c <= "⣿" for row in rows[1:] for text, rgb in row for c in text if rgb == SKY)

    assert dots("loss", 3) < dots("loss", -5) / 3
    assert dots("lr", 3) == dots("lr", -5) == dots("grad_norm", 3)


def test_lost_steps_checkpoints_and_the_flat_stretch_are_marked() -> None:
    events: list[dict[str, Any]] = [
        {"event": "step", "step": n, "loss": None if n == 500 else 3.0, "lr": 1e-3} for n in range(1, 1001)
    ]
    history = History.of([*events, {"event": "checkpoint", "step": 250}])
    rows = draw(Request("loss", 110, 20, view=View(plateau=750.0)), history, Axes())
    text = "\n".join("".join(t for t, _ in row) for row in rows)
    assert "NaN" in text and "flat since" in text and "▴" in text


@pytest.mark.parametrize("axis", ["step", "tokens", "epoch", "time"])
@pytest.mark.parametrize("log_x", [False, True])
@pytest.mark.parametrize("figure", list(FIGURES))
def test_every_figure_is_drawn_on_every_axis(figure: str, axis: str, log_x: bool) -> None:
    history = History.of(
        [
            {
                "event": "step", "step": n, "time": 100.0 + n, "tokens": n * 8, "epoch": n / 30, "loss": 3.0,
                "lr": 1e-3, "grad_norm": 1.0, "tokens_per_s": 5e4, "mfu": 0.3, "memory": 2**30,
            }
            for n in range(1, 100)
        ]
        + [{"event": "system", "time": 100.0 + n, "gpu_utilisation": 90, "gpu_power": 500} for n in range(1, 90)]
    )  # fmt: skip
    request = Request(figure, 70, 12, view=View(x=axis, log_x=log_x, cursor=2.0))
    rows = draw(request, history, Axes())
    text = "\n".join("".join(t for t, _ in row) for row in rows)
    assert any("⠀" < c <= "⣿" for c in text) and {len(line) for line in text.split("\n")} == {70}
    for width, height in ((3, 2), (16, 5), (20, 6)):
        draw(Request(figure, width, height, view=request.view), history, Axes())
        draw(Request(figure, width, height), History(), Axes())


@pytest.mark.parametrize(
    ("step", "planned", "end"),
    [(0, 800, 12.5), (90, 800, 100), (99, 800, 200), (500, 800, 800), (900, 800, 1000), (30, None, 50), (0, None, 1)],
)
def test_the_step_axis_ends_at_the_plan_halved_while_the_run_fits(step: int, planned: int | None, end: float) -> None:
    history = History()
    if planned:
        history.apply({"event": "start", "max_steps": planned})
    if step:
        history.apply({"event": "step", "step": step, "loss": 1.0})
    assert horizon(history) == end


def test_the_steep_beginning_is_left_out_of_the_linear_axis_only() -> None:
    history = History.of(
        [{"event": "start", "max_steps": 1000}]
        + [{"event": "step", "step": s, "loss": 3 + 8 * math.exp(-s / 20), "lr": 1e-3} for s in range(1, 900)]
    )
    axes = Axes()
    draw(Request("loss", 80, 20), history, axes)
    assert axes.y is not None and axes.y[1] < 4
    draw(Request("loss", 80, 20, log_y=True), history, axes)
    assert axes.y is not None and axes.y[1] > 8


def test_a_constant_learning_rate_is_drawn_as_one_straight_line() -> None:
    history = History.of([{"event": "step", "step": s, "loss": 3.0, "lr": 6e-4} for s in range(1, 500)])
    rows = draw(Request("lr", 70, 10), history, Axes())
    drawn = [y for y, row in enumerate(rows[1:]) if any("⠀" < c <= "⣿" for text, _ in row for c in text)]
    assert len(drawn) == 1


def test_unknown_figures_stay_unknown() -> None:
    shown = status(History(), "x", "queued")
    assert all(math.isnan(v) for v in (shown.train_loss, shown.val_loss, shown.mfu, shown.memory, shown.eta))


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_header_never_exceeds_its_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    header = RunHeader()
    monkeypatch.setattr(RunHeader, "size", property(lambda self: type("S", (), {"width": width, "height": 2})()))
    header._reactive_status = RunStatus(  # type: ignore[attr-defined]
        "a-run-with-quite-a-long-name-20250615-150000", "running", 123_456, 600_000, 3.1, 3.2, 0.01, 3.1, 6e-4, 1.2,
        1.2e6, 0.4, 2**36, 4000.0, "NVIDIA H200",
    )  # fmt: skip
    for line in header.render().plain.split("\n"):
        assert len(line) <= max(width, 60)


def test_the_share_of_clipped_steps_and_bits_per_byte_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[dict[str, Any]] = [
        {"event": "step", "step": step, "loss": 3.0, "grad_norm": 1.0 + step, "clipped": step > 3}
        for step in (1, 2, 3, 4)
    ]
    events.append({"event": "eval", "step": 4, "split": "heldout", "loss": 3.25, "se": 0.01, "bpb": 1.125})
    history = History.of(events)
    title = "".join(text for text, _ in draw(Request("grad_norm", 100, 12), history, Axes())[0])
    assert "grad norm, 25% of steps clipped" in title
    unclipped = History.of([{**event, "clipped": False} for event in events])
    assert "clipped" not in "".join(t for t, _ in draw(Request("grad_norm", 100, 12), unclipped, Axes())[0])
    monkeypatch.setattr(RunHeader, "size", property(lambda self: type("S", (), {"width": 120, "height": 2})()))
    header = RunHeader()
    header._reactive_status = status(history, "a-run", "finished")  # type: ignore[attr-defined]
    assert "val 3.2500 ±0.010  bpb 1.1250" in header.render().plain
