"""Importers: each format by content, wild bytes, restarts, bounded memory."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.errors import UserError
from workbench.runs.facts import Facts, facts_of_log, facts_of_run, override, parse_fact, read_toml
from workbench.runs.history import History
from workbench.runs.importers.read import LogReader, read_history

NANOGPT = """Overriding: batch_size = 8
Overriding: block_size = 256
Overriding: learning_rate = 0.001
Overriding: max_iters = 40
tokens per iteration will be: 2,048
defaulting to vocab_size of GPT-2 to 50304 (50257 rounded up for efficiency)
number of parameters: 10.65M
step 0: train loss 10.8107, val loss 10.8100
iter 0: loss 10.8627, time 24550.20ms, mfu -100.00%
iter 10: loss 7.7920, time 128.90ms, mfu 39.29%
iter 20: loss nan, time nanms, mfu 38.00%
step 20: train loss 5.2612, val loss 5.3055
"""


def write(folder: Path, text: str | bytes, name: str = "a.log") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_nanogpt_log_of_a_real_run_is_read_to_its_last_step(shared: Path) -> None:
    history, reader = read_history(shared / "logs/nanogpt_124M_one_epoch.log")
    assert reader.format == "nanoGPT"
    assert history.step == 660 and len(history.steps) == 67 and len(history.val) == len(history.seen) == 14
    assert (history.val.last("step"), history.val.last("loss"), history.seen.last("loss")) == (650, 2.4193, 2.2750)
    assert history.steps.last("step_time") == pytest.approx(0.12448)
    assert history.stop is not None and history.stop["reason"] == "finished"
    facts = facts_of_log(reader.facts, history)
    assert facts.number("parameters") == 123_590_000 and facts.source("parameters") == "log line 18"
    assert facts.number("vocab_size") == 50_304
    assert facts.number("tokens_seen") == 660 * 65_536 and facts.source("tokens_seen").startswith("derived")
    assert facts.number("max_steps") == 660 and facts.text("sampling") == "with_replacement"
    assert facts["unique_tokens"] is None and facts["epochs"] is None


def test_other_real_logs_are_told_by_content(shared: Path, tmp_path: Path) -> None:
    history, reader = read_history(shared / "logs/llmc_124M_fineweb.log")
    assert reader.format == "llm.c main.log"
    assert (history.val.last("step"), history.val.last("loss")) == (19560, 3.2722)
    assert history.steps.last("grad_norm") == 0.22
    history, _ = read_history(shared / "seed/run.csv")
    assert list(history.val["step"]) == [0, 2000, 5000, 8000, 11000, 13500, 14500]
    # Another name, another ending: the same answer.
    renamed = write(tmp_path, (shared / "seed/run.csv").read_bytes(), "125M-single-parquet.log")
    assert list(read_history(renamed)[0].val["loss"]) == list(history.val["loss"])


def test_nanogpt_carriage_returns_and_not_a_number(tmp_path: Path) -> None:
    for ending in ("\n", "\r\n", "\r"):
        history, reader = read_history(write(tmp_path, NANOGPT.replace("\n", ending)))
        assert list(history.steps["step"]) == [0, 10, 20]
        assert math.isnan(history.steps.last("loss")) and math.isnan(history.steps.last("step_time"))
        assert list(history.val["step"]) == [0, 20]
        assert math.isnan(history.steps["mfu"][0])
        assert reader.facts["lr"].source == "log line 3"


def test_escape_sequences_and_utf16_are_read(tmp_path: Path) -> None:
    coloured = NANOGPT.replace("step 20", "\x1b[32mstep\x1b[0m 20")
    assert read_history(write(tmp_path, coloured))[0].val.last("step") == 20
    utf16 = write(tmp_path, NANOGPT.encode("utf-16"), "powershell.txt")
    assert read_history(utf16)[0].val.last("loss") == 5.3055


def test_a_step_that_falls_back_is_a_resume(tmp_path: Path) -> None:
    again = NANOGPT + "Resuming training from out\nstep 10: train loss 6.0, val loss 6.1\niter 10: loss 6.2, time 1ms\n"
    history, _ = read_history(write(tmp_path, again))
    assert list(history.val["step"]) == [0, 10] and list(history.steps["step"]) == [0, 10]
    assert history.steps.last("loss") == 6.2
    assert history.resumes and "falls back from 20 to 10" in history.warnings[0]["text"]


def test_csv_columns_by_meaning(tmp_path: Path) -> None:
    text = "\ufeffGlobal Step;train/loss;eval/loss;learning_rate\n1;4,5;;1e-3\n2;4.4;4.6;9e-4\nx;1;1;1\n3;;nan;\n"
    history, _ = read_history(write(tmp_path, text))
    assert list(history.val["step"]) == [2, 3] and history.val["loss"][0] == 4.6 and math.isnan(history.val["loss"][1])
    assert list(history.steps["lr"][:2]) == [1e-3, 9e-4]
    exported = '"Step","run - val/loss","run - val/loss__MIN"\n"10","3.5","3.4"\n"20","3.4","3.3"\n'
    history, _ = read_history(write(tmp_path, exported))
    assert list(history.val["loss"]) == [3.5, 3.4]
    lines = '{"step": 1, "loss": 4.0}\n{"step": 2, "loss": 3.0, "val_loss": 3.5}\nnot json\n{"a": 1}\n'
    history, reader = read_history(write(tmp_path, lines))
    assert "JSON" in reader.format and history.step == 2 and history.val.last("loss") == 3.5


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"\x00\x01\x02" * 50, "binary"), (b"hello\nworld\n", "tried: nanoGPT"),
     (b"step:{step} train_loss:{loss}\n" * 20, "no known log format")],
)  # fmt: skip
def test_what_is_no_log_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        LogReader(write(tmp_path, content))
    assert "\n" not in str(error.value)


def test_missing_log_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such"):
        LogReader(tmp_path / "none.log")
    with pytest.raises(UserError, match="folder"):
        LogReader(tmp_path)


PIECES = st.sampled_from([
    "iter ", "step ", ": loss ", ": train loss ", ", val loss ", "nan", "inf", "1e999", "-1", "9" * 40, "3.5", "\n",
    "\r", "s:1 tel:", "step,val_loss\n", "1,2\n", '{"step": 1, "loss": 2}\n', '{"step": 1e400, "loss": {}}\n',
    "\x1b[31m", "Overriding: learning_rate = ", "Overriding: max_iters = 0\n",
    "tokens per iteration will be: ", "\x00", "é\ud7ff",
    "iter 5: loss 3.0, time 1ms, mfu 1%\n", "step 5: train loss 3.1, val loss 3.2\n", "s:2 trl:1 lr:0 norm:nan\n",
])  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=2000), st.lists(PIECES, max_size=60).map(lambda p: "".join(p).encode())))
def test_wild_bytes_give_numbers_or_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, content, "wild.log")
    try:
        history, reader = read_history(path)
    except UserError as error:
        assert "\n" not in str(error).replace(str(path), "")
        return
    facts = facts_of_log(reader.facts, history)
    assert all(fact is None or fact.source for fact in facts.values())
    for columns in (history.steps, *history.evals.values()):
        assert list(columns["step"]) == sorted(set(columns["step"]))


def test_memory_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "long.log"
    with path.open("w") as file:
        file.write(NANOGPT)
        file.write("x" * 30_000_000 + "\n")  # one endless line
        for _ in range(20):
            file.write("progress bar\r" * 2000)
        file.write("\niter 30: loss 5.0, time 1ms, mfu 1%\n")
    tracemalloc.start()
    history, _ = read_history(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert history.step == 30
    assert peak < 40e6


def test_facts_are_checked_and_the_nearest_is_named() -> None:
    for text, near in (("learning_rate=1", "lr"), ("paramters=1", "parameters"), ("max_iters=3", "max_steps")):
        with pytest.raises(UserError, match=f"did you mean {near}"):
            parse_fact(text)
    for text in ("lr=fast", "parameters=-1", "parameters=0", "schedule=zigzag", "lr=nan", "lr", "dropout=inf"):
        with pytest.raises(UserError):
            parse_fact(text)
    assert parse_fact("unique_tokens=0.75B")[1].value == 750_000_000
    assert parse_fact("tokens_per_step=524288")[1].source == "given by --fact"


def test_given_facts_replace_and_what_is_derived_follows() -> None:
    history = History.of([{"event": "step", "step": 100, "loss": 3.0}])
    facts = Facts()
    facts.put("tokens_per_step", 10, "log line 1")
    facts = override(facts, [], history)
    assert facts.number("tokens_seen") == 1000
    facts = override(facts, [parse_fact("tokens_per_step=20"), parse_fact("unique_tokens=500")], history)
    assert facts.number("tokens_seen") == 2000 and facts.number("epochs") == 4
    assert facts.source("epochs") == "derived: tokens_seen / unique_tokens"
    assert facts.source("unique_tokens") == "given by --fact"


def test_facts_survive_their_file(tmp_path: Path) -> None:
    facts = Facts()
    facts.put("lr", 1e-3, 'line "3" \\ \x1b\x7f')
    facts.put("train_eval_dropout", False, "x")
    facts.put("schedule", "cosine", "é")
    path = tmp_path / "facts.toml"
    path.write_text(facts.to_toml({"path": "/a b/c.log", "lines": 3}), encoding="utf-8")
    known, log = read_toml(path)
    assert Facts(known).to_dict() == facts.to_dict() and log == {"path": "/a b/c.log", "lines": 3}
    (tmp_path / "b.toml").write_text("parameterz = 3")
    with pytest.raises(UserError, match="did you mean parameters"):
        read_toml(tmp_path / "b.toml")


def test_facts_of_a_native_run_name_their_sources(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[optim]\nlr = 0.002\n[schedule]\nkind = "constant"\n[data]\npaths = ["a"]\n')
    (tmp_path / "data.json").write_text('{"tokens": 1000, "unique_tokens": 800, "effective_unique_tokens": null}')
    start = {"event": "start", "parameters": 5, "tokens_per_step": 7, "max_steps": 9}
    history = History.of([start, {"event": "step", "step": 2, "tokens": 1600, "loss": 1.0}])
    facts = facts_of_run(tmp_path, history)
    assert facts.number("lr") == 0.002 and facts.source("lr") == "config.toml"
    assert facts["min_lr"] is None  # a constant rate has none
    assert facts.number("epochs") == 2 and facts.number("duplicate_fraction") == pytest.approx(0.2)
    assert facts.source("parameters") == "start event" and facts.source("unique_tokens") == "data.json"


def test_reader_streams(tmp_path: Path) -> None:
    reader = LogReader(write(tmp_path, NANOGPT))
    events = reader.events()
    assert next(events)["event"] == "start"
    assert reader.lines < 9  # the rest has not been looked at
