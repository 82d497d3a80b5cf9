"""History: columns of what a run said, with resumes applied."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.events import decode, encode
from workbench.runs import cached
from workbench.runs.bulk import apply_block
from workbench.runs.columns import Folded
from workbench.runs.follow import read_whole
from workbench.runs.history import EVAL_FIELDS, Columns, History


def step(n: int, loss: float = 1.0) -> dict:
    return {"event": "step", "time": float(n), "step": n, "loss": loss}


def test_a_resume_replaces_what_came_after_its_step() -> None:
    history = History.of(
        [{"event": "start", "max_steps": 10}]
        + [step(n) for n in range(1, 8)]
        + [{"event": "eval", "step": 6, "split": "heldout", "loss": 3.0}]
        + [{"event": "stop", "reason": "stopped"}]
        + [{"event": "resume", "step": 4}]
        + [step(n, 2.0) for n in (5, 6)]
    )
    assert history.steps["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert history.steps["loss"].tolist() == [1, 1, 1, 1, 2, 2]
    assert len(history.val) == 0 and history.stop is None and history.step == 6 and history.max_steps == 10


def test_a_step_said_again_replaces_the_old_one() -> None:
    history = History.of([step(1), step(2), step(3), step(2, 5.0)])
    assert history.steps["step"].tolist() == [1, 2] and history.steps.last("loss") == 5.0


def test_missing_numbers_are_nan() -> None:
    history = History.of([{"event": "step", "step": 1, "loss": None, "lr": "fast"}])
    assert math.isnan(history.steps.last("loss")) and math.isnan(history.steps.last("lr"))


@given(st.lists(st.integers(0, 50)))
def test_steps_stay_strictly_ascending(numbers: list[int]) -> None:
    history = History.of(step(n) for n in numbers)
    steps = history.steps["step"].tolist()
    assert steps == sorted(set(steps)) and (not numbers or steps[-1] == numbers[-1])


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["step", "loss", "split", "time", "max_steps", "reason"]),
            st.one_of(
                st.none(),
                st.integers(),
                st.floats(),
                st.text(max_size=4),
                st.booleans(),
                st.lists(st.integers(), max_size=2),
            ),
        ),
        max_size=20,
    ),
    st.sampled_from(["start", "step", "eval", "resume", "stop", "checkpoint", "warning", "system", "other"]),
)
def test_wild_events_never_crash(fields: list[dict], kind: str) -> None:
    history = History.of({**f, "event": kind} for f in fields)
    assert history.step >= 0


def test_columns_grow_and_cut() -> None:
    columns = Columns(("step", "loss"))
    for i in range(1000):
        columns.append((i, i * 2.0))
    columns.cut_after(499)
    assert len(columns) == 500 and columns["loss"][-1] == 998


@given(st.lists(st.floats(-9, 9) | st.just(math.nan), min_size=1, max_size=300), st.lists(st.integers(1, 40)))
def test_folding_keeps_extremes_means_and_the_newest_row(values: list[float], sizes: list[int]) -> None:
    columns = Folded(("step", "loss"), ("loss",), ("loss",), max_rows=16)
    rows = np.array([np.arange(1, len(values) + 1), values])
    at = 0
    for size in [*sizes, len(values)]:
        columns.extend(rows[:, at : at + size])
        at = min(at + size, len(values))
    assert len(columns) <= 16 and columns.last("step") == len(values)
    covered = len(columns) * columns.stride
    assert len(values) - covered < columns.stride and np.all(np.diff(columns["step"]) == columns.stride)
    known = np.array(values[:covered])
    finite = known[np.isfinite(known)]
    assert columns["loss_lost"].sum() == covered - len(finite)
    if len(finite):
        assert np.nanmin(columns["loss_min"]) == finite.min() and np.nanmax(columns["loss_max"]) == finite.max()
    if len(finite) == covered and covered:
        np.testing.assert_allclose(columns["loss"].mean(), finite.mean(), atol=1e-9)


def test_a_folded_table_has_room_for_no_more_than_its_rows() -> None:
    table = Folded(("step", "loss"), ("loss",), (), max_rows=1000)
    for first in range(0, 5000, 300):
        table.extend(np.stack([np.arange(first, first + 300), np.ones(300)]))
        assert len(table) < 1000 and table._data.shape[1] <= 1000
    assert table.last("step") == 5099


def test_a_folded_table_is_cut_and_goes_on() -> None:
    columns = Folded(("step", "loss"), ("loss",), ("loss",), max_rows=8)
    for n in range(1, 101):
        columns.append((n, n))
    columns.cut_after(50)
    assert columns.last("step") <= 50 and columns["step"][-1] <= 50
    for n in range(51, 200):
        columns.append((n, n))
    assert np.all(np.diff(columns["step"]) > 0) and columns.last("step") == 199


wild_lines = st.lists(
    st.one_of(
        st.integers(1, 400).map(lambda n: encode({"event": "step", "time": float(n), "step": n, "loss": n / 7})),
        st.integers(1, 400).map(lambda n: encode({"event": "resume", "step": n})),
        st.integers(1, 400).map(lambda n: encode({"event": "eval", "step": n, "split": "heldout", "loss": 1.0})),
        st.sampled_from([
            b'{"event": "step", "step": "7"}\n', b'{"event": "step", "step": 9, "loss": {}}\n', b"torn {\n", b"\n",
            b'{"step": 300, "event": "step"}\n', b'{"event": "step", "step": 3, "loss": null, "more": [1]}\n',
            b'{"event": "stop", "reason": "stopped"}\n', b'{"event": "start", "max_steps": 5}\n',
            b'{"event": "eval", "time": 13.0, "step": 13, "event": "step", "step": 24, "loss": 5.0}\n',
            b'{"event": "step", "step": 30, "loss": 5.0, "event": "eval"}\n',
            b'{"event": "step", "step": 31, "loss": 5.0, "\\u0065vent": "stop"}\n',
        ]),
    ),
    max_size=30,
)  # fmt: skip


@given(wild_lines, st.integers(0, 300), st.booleans())
@example(
    [
        b'{"event": "eval", "time": 13.0, "step": 13, "event": "step", "step": 24, "loss": 5.0}\n',
        encode({"event": "step", "time": 39.0, "step": 39, "loss": 5.0}),
    ],
    0,
    True,
)
@example([b'{"event": "step", "step": 30, "loss": 5.0, "event": "eval"}\n'], 100, False)
def test_a_block_gives_the_same_as_its_lines_one_by_one(wild: list[bytes], steps: int, before: bool) -> None:
    many = [
        encode({"event": "step", "time": float(n), "step": n, "loss": None if n % 9 == 0 else n / 3, "clipped": n % 2})
        for n in range(1, steps + 1)
    ]
    lines = wild + many if before else many + wild
    want, got = History.of(e for line in lines if (e := decode(line.rstrip(b"\n")))), History()
    apply_block(got, b"".join(lines))
    for name in want.steps.fields:
        np.testing.assert_array_equal(want.steps[name], got.steps[name])
    assert (want.stop, want.start, want.resumes) == (got.stop, got.start, got.resumes)
    assert want.val["step"].tolist() == got.val["step"].tolist() and want.version == got.version


@pytest.mark.parametrize("clipped", ["false", "0", "0.5", "null"])
def test_arrow_reads_what_the_engine_writes(clipped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(
        f'{{"event": "step", "time": 1.5, "step": {n}, "loss": 2, "lr": null, "clipped": {clipped}, "memory": 7}}\n'
        for n in range(1, 200)
    )
    monkeypatch.setattr("workbench.runs.bulk.decode", lambda line: pytest.fail("line by line"))
    history = History()
    apply_block(history, lines.encode())
    assert history.step == 199 and history.steps.last("memory") == 7 and math.isnan(history.steps.last("lr"))


def test_a_long_run_is_read_on_from_the_cache_and_anew_where_it_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "WORTH", 1000)
    monkeypatch.setenv("GPTBENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "events.jsonl"
    events = [{"event": "start", "max_steps": 900}]
    events += [step(n, float("nan") if n == 7 else 1.0 / n) for n in range(1, 301)]
    events += [{"event": "eval", "step": 300, "split": "heldout", "loss": 3.0}, {"event": "checkpoint", "step": 300}]
    path.write_bytes(b"".join(map(encode, events)))
    first = read_whole(tmp_path)
    assert list((tmp_path / "cache" / "histories").glob("*.npz"))
    with path.open("ab") as file:
        file.write(encode(step(301, 0.5)) + encode({"event": "resume", "step": 250}))
    loaded = cached.load(path)
    assert loaded is not None and loaded[0].step == 300
    again, anew = read_whole(tmp_path), History.of(decode(line) or {} for line in path.read_bytes().splitlines())
    for name in anew.steps.fields:
        np.testing.assert_array_equal(again.steps[name], anew.steps[name])
    assert (again.val["loss"] == anew.val["loss"]).all() and len(first.steps) == 300 and again.step == 250
    assert (again.start, again.checkpoints, again.version) == (anew.start, anew.checkpoints, anew.version)
    changed = path.read_bytes().replace(b'"max_steps": 900', b'"max_steps": 800')
    path.write_bytes(changed)  # the same file and size, another beginning
    assert cached.load(path) is None and read_whole(tmp_path).max_steps == 800
    (kept,) = (tmp_path / "cache" / "histories").glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:500])
    assert cached.load(path) is None and read_whole(tmp_path).step == 250


def test_marks_and_evaluations_of_any_number_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.runs.history.MAX_TEXT", 5_000)
    monkeypatch.setattr("workbench.runs.history.MAX_MARKS", 50)
    history = History.of({"event": "sample", "step": n, "text": "x" * 1000} for n in range(100))
    assert 1 <= len(history.samples) <= 5 and history.samples[-1]["step"] == 99
    history = History.of({"event": "resume", "step": n} for n in range(100))
    assert [event["step"] for event in history.resumes] == list(range(50, 100))
    columns = Folded(("step", "loss"), (), (), max_rows=16)
    for n in range(100):
        columns.append((n, n / 2))
    assert len(columns) <= 16 and columns.last("step") == 99
    assert (columns["loss"] == columns["step"] / 2).all(), "an evaluation was averaged"


def test_a_history_with_folded_evaluations_is_kept_and_found_again(tmp_path: Path) -> None:
    events, history = tmp_path / "events.jsonl", History()
    events.write_text("{}\n")
    history.evals["heldout"] = Folded(EVAL_FIELDS, (), (), max_rows=16)
    for n in range(37):
        history.apply({"event": "eval", "step": n, "loss": n / 2, "se": 0.1})
    cached.save(events, history, 3)
    again, offset = cached.load(events) or (History(), 0)
    assert offset == 3 and again.val.stride == history.val.stride > 1  # type: ignore[attr-defined]
    assert again.val["step"].tolist() == history.val["step"].tolist() and again.val.last("step") == 36
