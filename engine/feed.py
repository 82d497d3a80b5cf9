"""Shards packed in the background while the first of them are trained on. Torch-free.

The shards come in a seeded order. The first ``first`` of them are window 0, with which training starts; the others
follow in windows of ``window`` shards. What a window holds depends on this list alone, not on when a shard was packed.
A shard that turns out damaged is left out for good: that is written down before anything behind it is trained on. One
that is gone or changed ends the run. With several processes one on each machine packs; the others wait for its packs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.bounded import read_json
from data.files import ShardError, identify
from data.packed import Cancelled, Pack, is_pack, pack_folder, pack_shards
from data.survey import Shard
from engine import config
from engine.corpus import Documents, without
from engine.errors import RunError

POLL = 0.1  # seconds
PAUSES = (2.0, 10.0, 30.0)  # before a remote shard is tried again
PATIENCE = 120.0  # seconds that another rank waits to hear that a shard is left out
AS_IT_WAS = "the run began with this shard: resume once it is as it was, or start a new run"

Hashes = npt.NDArray[np.uint64]


class Feed:
    """Packs ``shards``, given in the order in which they are trained on. Start it, and close it.

    Attributes:
        windows: how many, once ``cut`` has made them.
    """

    def __init__(
        self, shards: Sequence[Shard], data: config.Data, cache: Path, *, check: Callable[[Pack], None],
        skipped: Collection[str] = (), packs: bool = True, told: Path | None = None,
    ) -> None:  # fmt: skip
        self.shards = list(shards)
        self.windows = 0
        self._left_out: list[tuple[str, str]] = []
        self._skip: Callable[[str, str], None] = lambda path, text: None
        self._done: Callable[[], None] = lambda: None
        self._talking = threading.Lock()
        self._finished = False
        self._data, self._cache, self._check, self._pack, self._told = data, cache, check, packs, told
        self._known_skips = set(skipped)
        self._found: dict[int, Pack | None] = {}  # None: left out
        self._cut: list[range] = []
        self._held: Hashes = np.zeros((0, 2), np.uint64)
        self._documents: dict[int, Documents] = {}
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self, on_progress: Callable[[str, int, int], None]) -> None:
        """Begin to pack."""
        self._progress = on_progress
        self._thread.start()

    def listen(self, on_skip: Callable[[str, str], None], on_done: Callable[[], None]) -> None:
        """Tell these of each shard left out and why, before it is passed over, and once all is packed."""
        with self._talking:
            for path, text in self._left_out:
                on_skip(path, text)
            self._skip, self._done = on_skip, on_done
            if self._finished:
                on_done()

    def close(self) -> None:
        """Stop packing; who waits gets ``Cancelled``."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(10)

    def wait(self, number: int, cancelled: Callable[[], bool] = lambda: False) -> Pack | None:
        """The pack of the ``number``-th shard; None where it is left out.

        Raises:
            RunError, ShardError: the packing failed. Cancelled: asked for, or closed.
        """
        with self._changed:
            while number not in self._found:
                self._raise()
                if cancelled():
                    raise Cancelled
                self._changed.wait(POLL)
            return self._found[number]

    def cut(self, first: int, window: int, held_out: Hashes) -> None:
        """Make the windows: the first shards, then ``window`` at a time; without the texts of ``held_out``."""
        total = len(self.shards)
        rest = [range(at, min(at + window, total)) for at in range(first, total, window)]
        self._cut, self._held = [range(first), *rest], held_out
        self.windows = len(self._cut)

    def window(self, number: int) -> Documents:
        """The documents of a window. Waits; raises as ``wait`` does."""
        if number not in self._documents:
            found = [self.wait(shard) for shard in self._cut[number]]
            self._documents[number] = without(Documents.of([p for p in found if p is not None]), self._held)
        return self._documents[number]

    def whole(self) -> Documents:
        """All training documents, in the order of their paths. Waits; raises as ``wait`` does."""
        if -1 not in self._documents:
            self._documents[-1] = without(Documents.of(self.packs()), self._held)
        return self._documents[-1]

    def packs(self) -> list[Pack]:
        """All packs, in the order of their shards' paths. Waits; raises as ``wait`` does."""
        by_path = sorted(range(len(self.shards)), key=lambda shard: self.shards[shard].path)
        found = [self.wait(shard) for shard in by_path]
        return [pack for pack in found if pack is not None]

    def ready(self, number: int) -> bool:
        """Whether that window (behind the last: the whole) is there. Raises what the packing failed of."""
        wanted = range(len(self.shards)) if number >= self.windows else self._cut[number]
        with self._changed:
            if all(shard in self._found for shard in wanted):
                return True
            if self._error is not None:
                raise self._error
            return False

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closed.is_set():
            raise Cancelled

    def _run(self) -> None:
        try:
            self._pack_all() if self._pack else self._await_packs()
            with self._talking:
                self._finished = True
                self._done()
        except BaseException as error:  # raised again where a shard is wanted
            with self._changed:
                if not self._closed.is_set():
                    self._error = error
                self._changed.notify_all()

    def _pack_all(self) -> None:
        todo = []
        for number, shard in enumerate(self.shards):
            if shard.path in self._known_skips:
                self._put(number, None)
            else:
                todo.append(number)
        at = 0

        def failed(path: str, error: ShardError) -> None:
            nonlocal at
            self._put(todo[at], self._again(todo[at], error))
            at += 1

        for pack in self._packed([self.shards[n].path for n in todo], on_error=failed):
            shard = self.shards[todo[at]]
            if not pack.identity.same_bytes(shard.identity):
                raise RunError(f"{shard.path}: the shard was replaced while the run went on; {AS_IT_WAS}")
            self._put(todo[at], pack)
            at += 1

    def _packed(self, paths: list[str], **more: Any) -> Any:
        d = self._data
        return pack_shards(
            paths, encoding=d.encoding, column=d.column, cache=self._cache, apart=True,
            cancelled=self._closed.is_set, on_progress=self._progress, **more,
        )  # fmt: skip

    def _again(self, number: int, error: ShardError) -> Pack | None:
        """What becomes of a shard that could not be packed: tried again where it is remote, else left out or fatal."""
        shard = self.shards[number]
        for pause in PAUSES if shard.remote else ():
            if self._closed.wait(pause):
                raise Cancelled
            try:
                [pack] = self._packed([shard.path])
                return pack
            except ShardError as newer:
                error = newer
        if self._told is not None:
            self._follow(number, error)
            return None
        try:
            same = not is_pack(shard.path) and identify(shard.path) == shard.identity
        except ShardError:
            same = False
        if not same:
            raise RunError(f"{error}; {AS_IT_WAS}")
        with self._talking:
            self._left_out.append((shard.path, str(error)))
            self._skip(shard.path, str(error))
        return None

    def _await_packs(self) -> None:
        """Take the packs that another process of this machine makes."""
        for number, shard in enumerate(self.shards):
            d = self._data
            folder = shard.pack or pack_folder(shard.identity, d.encoding, d.column, self._cache)
            while not folder.exists():
                if shard.path in self._skips():
                    break
                if self._closed.wait(POLL):
                    raise Cancelled
            self._put(number, Pack.open(folder) if folder.exists() else None)

    def _follow(self, number: int, error: ShardError) -> None:
        """Wait until rank 0 has left the shard out as well."""
        for _ in range(round(PATIENCE / POLL)):
            if self.shards[number].path in self._skips():
                return
            if self._closed.wait(POLL):
                raise Cancelled
        raise error

    def _skips(self) -> set[str]:
        """The shards that ``data.json`` says are left out."""
        return skipped(self._told)

    def _put(self, number: int, pack: Pack | None) -> None:
        if pack is not None:
            self._check(pack)
        with self._changed:
            self._found[number] = pack
            self._changed.notify_all()


def progress(say: Callable[[str], None], every: float = 2.0) -> Callable[[str, int, int], None]:
    """Say how far the packing is, now and then."""
    last = [0.0]

    def report(path: str, done: int, total: int) -> None:
        if time.monotonic() - last[0] > every:
            last[0] = time.monotonic()
            say(f"packing {Path(path).name}: {done:,} of {total:,} rows")

    return report


def skipped(path: Path | None) -> set[str]:
    """The shards that a run's ``data.json`` says were left out while it ran."""
    try:
        facts = read_json(path) if path is not None else {}
        return {str(error["file"]) for error in facts.get("errors", []) if error.get("skipped")}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return set()
