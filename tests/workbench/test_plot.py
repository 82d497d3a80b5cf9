"""Charts: exact size, thinning that loses no extreme, smoothing before thinning, and no input that breaks them."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workbench import axes, plot

wild = st.floats(allow_nan=True, allow_infinity=True, width=64)


def chart(*series: plot.Series, **how: Any) -> list[str]:
    """The lines of a chart, without colour."""
    return plot.text_of(plot.chart_rows(series, **how))


@given(st.lists(st.tuples(wild, wild), max_size=60), st.integers(1, 12))
def test_thinning_keeps_extremes_of_every_column_and_order(points: list[tuple[float, float]], columns: int) -> None:
    x, y = [p[0] for p in points], [p[1] for p in points]
    tx, ty = plot.thin(x, y, columns)
    assert len(tx) == len(ty) <= max(3 * columns + 1, 0)
    assert np.all(np.diff(tx) >= 0)
    finite = [v for u, v in points if np.isfinite(u) and np.isfinite(v)]
    kept = ty[np.isfinite(ty)]
    assert set(kept) <= set(finite)
    if finite:
        assert kept.min() == min(finite) and kept.max() == max(finite)


def test_thinning_shows_a_single_spike_among_a_million() -> None:
    y = np.zeros(1_000_000)
    y[123_456], y[777_777] = 9.0, -4.0
    tx, ty = plot.thin(np.arange(1_000_000), y, 100)
    assert len(tx) <= 301
    assert ty.max() == 9.0 and ty.min() == -4.0
    assert tx[ty.argmax()] == 123_456


def test_a_stretch_without_values_is_a_gap() -> None:
    y = np.ones(10_000)
    y[5_000:6_000] = np.nan
    tx, ty = plot.thin(np.arange(10_000), y, 100)
    assert np.isnan(ty).any()
    assert np.all((tx[np.isnan(ty)] >= 5_000) & (tx[np.isnan(ty)] < 6_000))
    rows = chart(plot.Series(np.arange(10_000), y), width=80, height=12)
    line = next(row for row in rows if "⠒" in row or "⠤" in row or "⠉" in row or "⣀" in row)
    assert re.search(r"[⠁-⣿] {5,9}[⠁-⣿]", line)


def test_limits_leave_out_what_is_outside() -> None:
    tx, _ = plot.thin(np.arange(1000), np.arange(1000), 10, limits=(200, 300))
    assert tx.min() >= 200 and tx.max() <= 300


@given(st.lists(wild, max_size=300), st.floats(0.1, 500))
def test_smoothing_agrees_with_the_plain_recursion(values: list[float], half_life: float) -> None:
    values = [v if np.isfinite(v) and abs(v) < 1e100 else float("nan") for v in values]
    keep = 0.5 ** (1 / half_life)
    top = weight = 0.0
    want = []
    for v in values:
        top, weight = keep * top, keep * weight
        if np.isfinite(v):
            top, weight = top + v, weight + 1
        want.append(top / weight if np.isfinite(v) else float("nan"))
    scale = max((abs(v) for v in values if np.isfinite(v)), default=1.0)
    np.testing.assert_allclose(plot.ema(values, half_life), want, rtol=1e-6, atol=1e-9 * scale)


def test_smoothing_never_moves_a_constant() -> None:
    assert plot.ema(np.full(5000, 6e-4), 50) == pytest.approx(np.full(5000, 6e-4), rel=1e-12)


@pytest.mark.parametrize("points", [0, 1, 2, 3, 500])
@pytest.mark.parametrize(("width", "height"), [(0, 0), (1, 1), (3, 2), (15, 4), (16, 5), (17, 6), (80, 24), (200, 50)])
@pytest.mark.parametrize(("log_x", "log_y"), [(False, False), (True, True)])
def test_any_size_gives_exactly_that_size(points: int, width: int, height: int, log_x: bool, log_y: bool) -> None:
    x = np.arange(points)
    series = plot.Series(x, np.sin(x), "sin", style="both", error=np.ones(points))
    lines = chart(series, width=width, height=height, title="t" * 30, log_x=log_x, log_y=log_y)
    assert [len(line) for line in lines] == [width] * height


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(wild, wild), max_size=40),
    st.one_of(st.none(), st.tuples(wild, wild)),
    st.one_of(st.none(), st.tuples(wild, wild)),
    st.booleans(),
    st.booleans(),
)
@example(points=[(1.9231983203310408e21, 0.0)], xlim=(0.0, 6.95e-278), ylim=None, log_x=False, log_y=False)
def test_nothing_to_draw_breaks_it(
    points: list[tuple[float, float]],
    xlim: tuple[float, float] | None,
    ylim: tuple[float, float] | None,
    log_x: bool,
    log_y: bool,
) -> None:
    x, y = [p[0] for p in points], [p[1] for p in points]
    lines = chart(
        plot.Series(x, y, "a", error=y), width=40, height=9, xlim=xlim, ylim=ylim, log_x=log_x, log_y=log_y,
        marks=[plot.Mark(v, "m") for v in x[:3]],
    )  # fmt: skip
    assert [len(line) for line in lines] == [40] * 9


def test_a_spike_far_outside_the_limits_costs_no_time() -> None:
    y = np.ones(1000)
    y[::2] = 1e12
    begin = time.perf_counter()
    chart(plot.Series(np.arange(1000), y), width=120, height=30, ylim=(0, 2))
    assert time.perf_counter() - begin < 2


def test_a_line_that_leaves_the_axis_keeps_its_slope() -> None:
    """Cut where it crosses the limit, not bent towards its hidden end; the same when x is cut."""

    def drawn(xlim: plot.Limits, ylim: plot.Limits) -> list[str]:
        lines = chart(plot.Series([0, 10, 20], [10, 0, 10]), width=87, height=13, xlim=xlim, ylim=ylim)
        return [line[7:] for line in lines[1:-2]]

    whole, upper = drawn((0, 20), (0, 10)), drawn((0, 20), (0, 5))
    assert whole[0][0] != " " and upper[0].index(next(c for c in upper[0] if c != " ")) == pytest.approx(20, abs=1)
    middle = drawn((5, 15), (0, 5))
    assert middle[0][0] != " " and middle[0].rstrip()[-1] != " " and len(middle[0].rstrip()) >= 79


def test_a_point_between_gaps_is_a_dot() -> None:
    nan = float("nan")
    lines = chart(plot.Series([0, 1, 2, 3], [1, nan, 2, nan]), width=40, height=8)
    assert sum("⠀" < c <= "⣿" for line in lines for c in line) == 2


def test_each_curve_has_its_own_colour_and_its_name_in_the_legend() -> None:
    series = [plot.Series([1, 2, 3], [3, 1, 2], "loss"), plot.Series([1, 3], [1, 3], "val", style="points")]
    rows = plot.chart_rows(series, width=50, height=10)
    assert "━ loss" in plot.text_of(rows)[0] and "• val" in plot.text_of(rows)[0]
    assert {rgb for row in rows[1:] for _, rgb in row} >= set(plot.PALETTE[:2])


def test_axes_stand_where_they_are_told_whatever_the_data() -> None:
    def labels(points: int) -> list[str]:
        x = np.arange(points)
        lines = chart(plot.Series(x, x), width=80, height=12, xlim=(0, 4000), ylim=(2, 4))
        return [line[:7] for line in lines[1:]] + lines[-1:]

    assert labels(3) == labels(3000)
    assert "4000" in labels(3)[-1]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 0.25, 0.5], ["0.00", "0.25", "0.50"]),
        ([0, 20_000, 40_000], ["0", "20k", "40k"]),
        ([1e6, 1.5e6, 5e6], ["1.0M", "1.5M", "5.0M"]),
        ([0.0, 3e-4, 6e-4], ["0", "3e-4", "6e-4"]),
        ([2.5, 5.0, 7.5], ["2.5", "5.0", "7.5"]),
        ([0.0, 500.0, 1000.0], ["0", "500", "1000"]),
    ],
)
def test_tick_labels_are_short_and_tell_values_apart(values: list[float], labels: list[str]) -> None:
    assert axes.labels(values) == labels


def test_a_wide_log_axis_is_labelled_by_decades() -> None:
    curve = plot.Series([1, 10, 100, 1000], [1e-4, 1, 10, 1e4])
    bottom = chart(curve, width=60, height=20, log_x=True, log_y=True)[-1]
    assert [int(v) for v in bottom.split()] == [1, 10, 100, 1000]


def test_limits_hold_still_until_they_must_move() -> None:
    first = plot.steady(None, (2.0, 4.0))
    assert plot.steady(first, (2.2, 3.9)) == first
    assert plot.steady(first, (1.9, 3.9)) == (1.9, 3.9)
    assert plot.steady(first, (2.0, 2.5)) == (2.0, 2.5)


def test_clipped_limits_leave_the_first_steps_outside() -> None:
    loss = 3 + 8 * np.exp(-np.arange(2000) / 20)
    assert plot.span(loss)[1] > 10
    assert plot.span(loss, clip=0.02)[1] < 6


def test_a_mark_is_drawn_with_its_label_and_outside_ones_are_not() -> None:
    marks = [plot.Mark(50, "epoch 1"), plot.Mark(500, "late")]
    text = "\n".join(chart(plot.Series([0, 100], [1, 2]), width=60, height=12, marks=marks))
    assert "epoch 1" in text and "late" not in text


def test_neither_curve_nor_foot_nor_another_label_makes_a_label_unreadable() -> None:
    along_the_foot, along_the_top = ([1.0] * 80 for _ in range(2))
    for curve, limits in ((along_the_foot, (1.0, 2.0)), (along_the_top, (0.0, 1.0))):
        marks = [plot.Mark(40, "epoch 1"), plot.Mark(41, "NaN"), plot.Mark(44, tall=False), plot.Mark(3, "warm")]
        text = "\n".join(chart(plot.Series(range(80), curve), width=80, height=14, ylim=limits, marks=marks))
        assert all(label in text for label in ("epoch 1", "NaN", "warm")), text


def test_what_stands_aside_is_what_a_short_legend_leaves_out() -> None:
    told = [plot.Series([0, 1], [1, 2], name, aside=name == "seen") for name in ("train", "seen", "val")]
    head = chart(*told, width=24, height=8, title="loss")[0]
    assert "train" in head and "val" in head and "seen" not in head


def test_charts_built_in_several_threads_do_not_mix() -> None:
    def drawn(seed: int) -> list[str]:
        y = np.random.default_rng(seed).standard_normal(300)
        return chart(plot.Series(np.arange(300), y, f"s{seed}"), width=70 + seed, height=12)

    alone = [drawn(seed) for seed in range(6)]
    together: dict[int, list[str]] = {}
    threads = [threading.Thread(target=lambda s=seed: together.update({s: drawn(s)})) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[seed] for seed in range(6)] == alone


def test_a_frame_that_is_kept_holds_equal_cells_once() -> None:
    axis = axes.Axis.of((0.0, 100.0), [], False, 0.0)
    cells = [cell for row in plot._frame(120, 30, axis, axis, ((50.0, plot.GREY),)) for cell in row]
    assert len({id(cell) for cell in cells}) == len(set(cells)) < len(cells)


@pytest.mark.parametrize("height", range(5, 12))
def test_two_ticks_never_share_a_line_of_the_y_axis(height: int) -> None:
    """Of two that meet, plotext shows one or the other, from process to process."""
    for top in (0.002, 0.0021, 1.0, 7.3, 48_000.0):
        axis = axes.Axis.of((0.0, top), [], False, 0.0)
        places, labels = plot._y_ticks(axis, height - 2)
        at = [round(place / top * (height - 3)) for place in places]
        assert len(set(at)) == len(at) == len(labels) >= 1


@pytest.mark.parametrize("low, high", [(166_210.5, 3_865_767.4), (566_713.2, 1_326_495.4), (60_068.0, 69_436.7)])
def test_a_narrow_zoomed_axis_tells_its_scale_by_two_places(low: float, high: float) -> None:
    axis = plot.Axis.of((low, high), [], False, 0.0)
    places, labels = plot._x_ticks(axis, 33)  # a chart of the grid at 80 columns
    assert len(places) == len(labels) >= 2 and low <= places[0] < places[-1] <= high
    assert (places[-1] - places[0]) / (high - low) * 33 >= len(labels[0]) + 2
    x = np.linspace(low, high, 50)
    bottom = "".join(text for text, _ in plot.chart_rows([plot.Series(x, x)], width=39, height=9, xlim=(low, high))[-1])
    assert bottom.split() == labels
