"""Shards, runs, logs and settings that hold a hostile text at every door by which text comes in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine import process
from engine.config import resolve
from tests.engine.conftest import TINY
from tests.hostile.payloads import file_name, planted
from tests.workbench.folders import NOW, make_run

DOORS = {
    "tx": "text of documents", "co": "column names", "fi": "shards' file names", "fo": "folder names",
    "rn": "run names", "rr": "runs folder's name", "wa": "phases of events", "sa": "samples, prompts",
    "st": "stop reasons", "de": "device's name", "no": "notes", "lo": "engine.log", "cf": "config.toml",
    "cx": "config.toml, unknown key",
    "da": "data.json", "di": "diagnosis.json", "pr": "process.json", "pb": "probes", "qu": "queue.json",
    "fa": "facts.toml", "ln": "logs' file names", "lc": "logs' columns", "lv": "logs' values", "lj": "logs' JSON",
    "re": "recipes", "ar": "arguments, pasted text",
}  # fmt: skip
NUMBERS_ALONE = ("lc", "lv", "lj")  # of a log's lines nothing but numbers is taken: no sink ever shows their text
EVERY = "every door at once"


def toml(text: str) -> str:
    """A TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@dataclass
class World:
    """Where what was planted lies."""

    base: Path
    payload: str
    shards: Path
    shard: Path
    runs: Path
    run: Path
    other: Path
    broken: Path
    elsewhere: Path
    changed: Path
    queued: Path
    imported: Path
    csv: Path
    jsonl: Path
    log: Path
    recipe: Path
    bad_recipe: Path

    def text(self, door: str) -> str:
        """What was planted at a door."""
        return planted(door, self.payload)


def build(base: Path, payload: str) -> World:
    """Plant a payload at every door."""

    def text(door: str) -> str:
        return planted(door, payload)

    def named(door: str) -> str:
        return file_name(text(door))

    shards = base / named("fo")
    shards.mkdir(parents=True)
    shard = shards / f"{named('fi')}.parquet"
    body = [f"{text('tx')} {'plain words ' * 30}{i}" for i in range(6)]
    pq.write_table(pa.table({
        "text": [*body, *body[:3], text("tx")], text("co"): [text("tx")] * 10, "score": [float(i) for i in range(10)],
        "language": [text("tx")] * 10,
    }), shard)  # fmt: skip
    (shards / f"damaged {named('fi')}.parquet").write_bytes(b"PAR1 nothing PAR1")
    runs = base / named("rr")
    run = make_run(runs, named("rn"), steps=300, log=f"{text('lo')}\nline\n")
    other = make_run(runs, "other", steps=300)
    with (run / "events.jsonl").open("a", encoding="utf-8") as file:
        for event in (
            {"event": "start", "time": NOW, "schema": 1, "parameters": 3_416_384, "tokens_per_step": 1024,
             "max_steps": 800, "device": text("de"), "device_name": text("de"), "versions": {"torch": text("de")}},
            {"event": "phase", "time": NOW, "name": text("wa"), "seconds": 1.0},
            {"event": "warning", "time": NOW, "step": 300, "text": text("wa")},
            {"event": "eval", "time": NOW, "step": 300, "split": text("wa"), "loss": 3.0, "se": 0.02},
            {"event": "sample", "time": NOW, "step": 300, "prompt": text("sa"), "text": text("sa")},
            {"event": "stop", "time": NOW, "step": 300, "reason": "failed", "text": text("st")},
        ):  # fmt: skip
            file.write(json.dumps(event) + "\n")
    (run / "note.txt").write_text(text("no"), "utf-8")
    (run / "data.json").write_text(json.dumps({
        "files": [{"path": text("da"), "rows": 3, "size": 9, "footer": text("da"), "documents": 3, "tokens": 30}],
        "encoding": text("da"), "recipe": {"digest": text("da"), "path": text("da")}, "tokens": 30_000,
        "unique_tokens": 30_000, "documents": 3, "errors": [{"file": text("da"), "error": text("da")}],
        "held_out": {"documents": 3, "tokens": 30, "leaked_documents": 0},
    }))  # fmt: skip
    for explained in (run, other):
        (explained / "diagnosis.json").write_text(json.dumps({"verdict": text("di"), "tldr": text("di"), "causes": []}))
    (run / "process.json").write_text(json.dumps({"pid": 1, "start_time": text("pr"), "host": text("pr")}))
    settled = {"cause": "lr_too_high", "what": text("pb"), "confirmed": True, "why": text("pb"), "step": 300}
    for cause in ("lr_too_high", named("pb")):
        (run / "probes" / cause).mkdir(parents=True)
        (run / "probes" / cause / "plan.json").write_text(json.dumps({"format": 1, "arms": [], "step": 300}))
    (run / "probes" / "lr_too_high" / "result.json").write_text(json.dumps(settled))
    for name, content in {"current": named("pb"), "engine.log": text("pb")}.items():
        (run / "probes" / name).write_text(content, "utf-8")
    config = (run / "config.toml").read_text().replace('device = "auto"', 'device = "cpu"')
    paths = f"paths = [{toml('/' + text('cf') + '.parquet')}]\nval_paths = [{toml('/' + text('cf'))}]"
    (run / "config.toml").write_text(re.sub(r"(?m)^paths = .*\n(val_paths = .*)?", lambda _: paths + "\n", config))
    broken = make_run(runs, "broken", steps=20)
    (broken / "config.toml").write_text(f"[optim]\n{toml(text('cx'))} = 3\n")
    elsewhere = make_run(runs, "elsewhere", steps=-1)
    with (elsewhere / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"event": "phase", "time": NOW, "name": text("wa"), "seconds": 1.0}) + "\n")
    (elsewhere / "process.json").write_bytes((run / "process.json").read_bytes())
    changed = runs / "changed"
    changed.mkdir()
    (changed / "config.toml").write_text(resolve(overrides={**TINY, "data.paths": [str(shard)]}).to_toml())
    (changed / "data.json").write_bytes((run / "data.json").read_bytes())
    moved = runs / "moved"  # to a machine without the card that it was trained on
    moved.mkdir()
    (moved / "config.toml").write_text(config.replace('device = "cpu"', 'device = "auto"'))
    start = {"event": "start", "time": NOW, "schema": 1, "device": text("de"), "device_name": text("de")}
    (moved / "events.jsonl").write_text(json.dumps(start) + "\n")
    queued = runs / "queued"
    queued.mkdir()
    (queued / "config.toml").write_text(config)
    (runs / ".queue").mkdir()
    (runs / ".queue" / "queue.json").write_text(
        json.dumps({"waiting": ["queued"], "refused": {text("qu"): text("qu")}})
    )
    process.write(runs / ".queue")  # this very process: it lives, and nothing else is started
    imported = runs / "imported"
    imported.mkdir()
    (imported / "events.jsonl").write_bytes((other / "events.jsonl").read_bytes())
    fact = f"value = {toml(text('fa'))}, source = {toml(text('fa'))}"
    (imported / "facts.toml").write_text(f"[facts]\noptimizer = {{ {fact} }}\n")
    logs = base / "logs"
    logs.mkdir()
    csv, jsonl, log = (logs / f"{named('ln')}.{kind}" for kind in ("csv", "jsonl", "log"))
    rows = "".join(f"{s},{5 - s / 40:.3f},{text('lv') if s % 7 == 0 else 0.001}\n" for s in range(1, 60))
    csv.write_text(f"step,loss,lr,{text('lc')}\n{rows}", "utf-8")
    lines = ({"_step": s, "train/loss": 5 - s / 40, text("lj"): s, "note": text("lj")} for s in range(1, 60))
    jsonl.write_text("".join(json.dumps(line) + "\n" for line in lines))
    log.write_text(
        "".join(f"iter {s}: loss {5 - s / 40:.4f}, time 10ms, mfu 30% {text('lv')}\n" for s in range(60)), "utf-8"
    )
    recipe, bad = base / "recipe.toml", base / f"{named('re')}.toml"
    recipe.write_text(f"[filter]\nlanguage = [{toml(text('re'))}]\nwhere = [{toml('text ~ ' + text('re'))}]\n", "utf-8")
    bad.write_text(f"[filter]\nscore_column = {toml(text('re'))}\nmin_score = 1.0\n", "utf-8")
    return World(
        base, payload, shards, shard, runs, run, other, broken, elsewhere, changed, queued, imported, csv, jsonl, log,
        recipe, bad,
    )  # fmt: skip
