from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from data import workers
from data.files import ShardError
from data.packed import pack_shards


def echo(path: str, behaviour: str, on_progress: Any) -> list[Any]:
    """What a worker of these tests does."""
    on_progress(path, 1)
    if behaviour == "refuse":
        raise ShardError(f"{path}: refused")
    if behaviour == "crash":
        raise RuntimeError("broken\nbadly")
    if behaviour == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "sleep":
        time.sleep(60)
    print("a stray line", flush=True)
    os.system("echo another")
    return [path, os.getpid()]


def jobs(*behaviours: str) -> list[dict[str, str]]:
    return [{"path": f"p{i}", "behaviour": b} for i, b in enumerate(behaviours)]


def test_results_errors_and_deaths_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    work = jobs("ok", "refuse", "crash", "die", "ok", "ok")
    found = dict(
        workers.run("tests.data.test_workers:echo", work, workers=2, on_progress=lambda i, v: told.append((i, v)))
    )
    assert sorted(found) == list(range(6)) and sorted(told) == [(i, [f"p{i}", 1]) for i in range(6)]
    assert found[0][0] == "p0" and found[5][0] == "p5" and found[0][1] != os.getpid()
    assert str(found[1]) == "p1: refused"
    assert str(found[2]) == "p2: its worker process failed: badly"
    assert "SIGKILL" in str(found[3]) and "memory" in str(found[3])


def test_cancelling_kills_the_workers() -> None:
    begin, pids = time.monotonic(), []
    with pytest.raises(workers.Cancelled):
        for _, value in workers.run(
            "tests.data.test_workers:echo",
            jobs("ok", "sleep", "sleep"),
            workers=2,
            cancelled=lambda: bool(pids) and time.monotonic() - begin > 0.2,
        ):
            pids.append(value[1])
    assert time.monotonic() - begin < 20
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_packing_in_workers_names_the_bad_and_keeps_the_order(tmp_path: Path, write_shard) -> None:
    paths = [write_shard(f"{i}.parquet", [f"text {i}"] * (i + 1)) for i in range(5)]
    paths[2].write_bytes(b"no parquet at all")
    write_shard("3.parquet", ["x"], text=[1])
    errors: dict[str, str] = {}
    steps: list[tuple[str, int, int]] = []
    packs = list(
        pack_shards(
            paths,
            cache=tmp_path / "cache",
            workers=2,
            on_progress=lambda *values: steps.append(values),
            on_error=lambda path, error: errors.update({path: str(error)}),
        )
    )
    assert [Path(p.identity.path).name for p in packs] == ["0.parquet", "1.parquet", "4.parquet"]
    assert {Path(p).name for p in errors} == {"2.parquet", "3.parquet"}
    assert (str(paths[4]), 5, 5) in steps
    with pytest.raises(ShardError, match=r"2\.parquet"):
        list(pack_shards(paths, cache=tmp_path / "cache", workers=2))


def test_packing_is_cancelled_and_leaves_only_whole_packs(tmp_path: Path, write_shard) -> None:
    paths = [write_shard(f"{i}.parquet", ["some words here "] * 3000) for i in range(4)]
    cache = tmp_path / "cache"
    for count in (1, 2):
        seen: list[str] = []
        with pytest.raises(workers.Cancelled):
            list(
                pack_shards(
                    paths,
                    cache=cache,
                    workers=count,
                    on_progress=lambda path, done, total, seen=seen: seen.append(path),
                    cancelled=lambda seen=seen: len(seen) > 1,
                )
            )
    left = list(cache.iterdir())
    assert all(entry.name.endswith(".pack") for entry in left) and len(left) < 4


def test_packing_from_a_thread_of_a_textual_app(tmp_path: Path, write_shard) -> None:
    """Textual replaces sys.stdout by an object without a file descriptor, which multiprocessing does not survive."""
    import asyncio

    from textual.app import App
    from textual.worker import get_current_worker

    paths = [write_shard(f"{i}.parquet", [f"text {i}"] * 20) for i in range(3)]
    found: list[int] = []

    class Packing(App[None]):
        def on_mount(self) -> None:
            self.run_worker(self.pack, thread=True)

        def pack(self) -> None:
            get_current_worker()
            found.extend(p.documents for p in pack_shards(paths, cache=tmp_path / "c", workers=2))
            self.call_from_thread(self.exit)

    async def drive() -> None:
        async with asyncio.timeout(60):
            await Packing().run_async(headless=True)

    asyncio.run(drive())
    assert found == [20, 20, 20]


def test_large_jobs_share_one_worker() -> None:
    behaviours = ["ok"] * 6
    found = dict(workers.run("tests.data.test_workers:echo", jobs(*behaviours), workers=3, alone={1, 3, 5}))
    assert sorted(found) == list(range(6)) and len({found[index][1] for index in (1, 3, 5)}) == 1
