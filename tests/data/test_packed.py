from __future__ import annotations

import json
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import packing
from data.encoding import load
from data.files import ShardError, identify
from data.pack import token_dtype
from data.packed import Pack, inputs, pack_shard, pack_shards

documents = st.one_of(
    st.none(),
    st.text(max_size=60),
    st.sampled_from(["<|endoftext|>", "a <|endoftext|> b", " ", "\n\n\n", "\x00", "\u202e\x1b[31m[bold]x", "é" * 300]),
)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(documents, max_size=30))
def test_a_pack_gives_back_every_document(texts: list[str | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.parquet"
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), path, row_group_size=7)
        pack = pack_shard(path, cache=Path(folder) / "cache")
        kept = [(row, text) for row, text in enumerate(texts) if text]
        assert pack.rows.tolist() == [row for row, _ in kept]
        assert pack.bytes.tolist() == [len(text.encode()) for _, text in kept]
        assert pack.empty_rows == len(texts) - len(kept)
        assert pack.offsets[0] == 0 and pack.offsets[-1] == len(pack.tokens) and len(pack.offsets) == len(kept) + 1
        for index, (_, text) in enumerate(kept):
            tokens = pack.document(index)
            assert tokens[-1] == pack.eot == 50256
            assert (tokens[:-1] < pack.eot).all()  # special tokens in a text are characters
            assert load().decode(tokens[:-1].tolist()) == text
        same = {}
        for index, (_, text) in enumerate(kept):
            assert same.setdefault(text, tuple(pack.hashes[index])) == tuple(pack.hashes[index])
        assert len(set(same.values())) == len(same)


def test_dtype_follows_the_vocabulary() -> None:
    assert token_dtype(50257) == np.uint16 and token_dtype(65536) == np.uint16
    assert token_dtype(65537) == np.uint32 and token_dtype(200_019) == np.uint32


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_every_kind_of_text_column(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"text": pa.array(["one", "two", "one", None]).cast(kind)}), tmp_path / "x.parquet")
    assert pack_shard(tmp_path / "x.parquet", cache=tmp_path).documents == 3


def test_a_giant_document_is_encoded_in_pieces_with_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_PIECE", 100)
    text = "It's   the 1st  of\n\n 22 tests, isn't it? Über 3,000 words — or so; don't ask.  \t x y z " * 60
    pieces = list(packing.encode(load(), text))
    assert len(pieces) > 10
    assert np.concatenate(pieces).tolist() == load().encode_ordinary(text)
    assert len(list(packing.encode_utf8(load(), memoryview(text.encode())))) > 10
    unbroken = "ab" * 1000
    assert [len(p) for p in packing.encode(load(), unbroken)] == [len(load().encode_ordinary(unbroken))]


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet=st.sampled_from(list("ab Z9 '\n\t.é中-s")), max_size=400))
def test_cuts_never_change_tokens(text: str) -> None:
    before, packing._PIECE = packing._PIECE, 5
    try:
        pieces = np.concatenate(list(packing.encode(load(), text)))
        of_bytes = np.concatenate(list(packing.encode_utf8(load(), memoryview(text.encode()))))
    finally:
        packing._PIECE = before
    assert pieces.tolist() == of_bytes.tolist() == load().encode_ordinary(text)


def test_a_pack_is_made_once_and_again_when_the_file_changes(tmp_path: Path, write_shard) -> None:
    path, cache = write_shard("x.parquet", ["one", "two"]), tmp_path / "cache"
    first = pack_shard(path, cache=cache)
    stamp = (first.folder / "meta.json").stat().st_mtime_ns
    again = pack_shard(path, cache=cache)
    assert again.folder == first.folder and (again.folder / "meta.json").stat().st_mtime_ns == stamp
    write_shard("x.parquet", ["one", "two", "three"])
    changed = pack_shard(path, cache=cache)
    assert changed.folder != first.folder and changed.documents == 3 and changed.identity == identify(path)
    assert pack_shard(path, cache=cache, column="id").documents == 3
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "rows.bin", "hashes.bin", "bytes.bin", "meta.json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_pack_is_noticed_and_packed_again(tmp_path: Path, write_shard, name: str, how: str) -> None:
    path, cache = write_shard("x.parquet", ["some text"] * 50), tmp_path / "cache"
    whole = pack_shard(path, cache=cache)
    tokens = whole.tokens.tolist()
    file = whole.folder / name
    raw = bytearray(file.read_bytes())
    file.unlink()
    if how == "flipped":
        # In meta.json a digit of the vocabulary's size: still JSON, still plausible.
        place = raw.index(b"50257") + 4 if name == "meta.json" else len(raw) // 2
        raw[place] ^= 1
        file.write_bytes(raw)
    elif how == "cut":
        file.write_bytes(raw[:-1])
    with pytest.raises(ShardError, match=r"^[^\n]+$"):
        Pack.open(whole.folder)
    assert pack_shard(path, cache=cache).tokens.tolist() == tokens
    assert Pack.open(whole.folder).tokens.tolist() == tokens
    assert [entry.name for entry in cache.iterdir()] == [whole.folder.name]


def test_pack_folders_stand_for_themselves(tmp_path: Path, write_shard) -> None:
    path, out = write_shard("x.parquet", ["one", "two"]), tmp_path / "out"
    pack = pack_shard(path, cache=out)
    other = write_shard("y.parquet", ["three"])
    assert inputs([out, other]) == sorted([str(pack.folder), str(other)])
    path.unlink()
    moved = tmp_path / "elsewhere"
    pack.folder.rename(moved)
    assert inputs([moved]) == [str(moved)]
    assert [p.documents for p in pack_shards([str(moved), str(other)], cache=tmp_path / "c")] == [2, 1]
    with pytest.raises(ShardError, match="not a pack folder"):
        Pack.open(tmp_path)


def test_a_file_that_changes_while_it_is_packed_leaves_nothing(tmp_path: Path, write_shard) -> None:
    path, cache = write_shard("x.parquet", ["some text"] * 200), tmp_path / "cache"

    def replace(done: int, total: int) -> None:
        write_shard("new.parquet", ["another text"] * 200).replace(path)

    with pytest.raises(ShardError, match="changed while"):
        pack_shard(path, cache=cache, on_progress=replace)
    assert list(cache.iterdir()) == []
    assert load().decode(pack_shard(path, cache=cache).document(0).tolist()).startswith("another text")


@pytest.mark.parametrize(
    ("columns", "said"),
    [({"body": ["x"]}, "no column 'text'; it has body"), ({"text": [1]}, "holds int64, not text")],
)
def test_a_column_that_is_no_text_is_named(tmp_path: Path, columns: dict, said: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(ShardError, match=said):
        pack_shard(tmp_path / "x.parquet", cache=tmp_path / "cache")


def test_a_flipped_byte_is_an_error_and_leaves_nothing(tmp_path: Path, write_shard) -> None:
    path = write_shard("x.parquet", [f"document {i} " + "some words " * (i % 13) for i in range(400)])
    flip(path)
    with pytest.raises(ShardError, match=r"x\.parquet.*again$"):
        pack_shard(path, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def flip(path: Path) -> None:
    """Damage the first page of the text; the footer stays whole."""
    raw = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(0).column(0)
    begin = chunk.dictionary_page_offset or chunk.data_page_offset
    middle = begin + chunk.total_compressed_size // 2
    for place in range(middle, middle + 8):
        raw[place] ^= 0xFF
    path.write_bytes(raw)


def test_a_full_disk_leaves_nothing_half(tmp_path: Path, write_shard) -> None:
    """A limit on the size of files refuses writes as a full disk does."""
    import subprocess
    import sys

    path, cache = write_shard("x.parquet", ["word " * 2000] * 300), tmp_path / "cache"
    code = f"""
import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
from data import packed
try: packed.pack_shard({str(path)!r}, cache={str(cache)!r})
except packed.ShardError as error: print(error)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "cannot write packed tokens" in shown and shown.count("\n") == 1
    assert list(cache.iterdir()) == []
    assert pack_shard(path, cache=cache).documents == 300


def test_packers_at_once_agree(tmp_path: Path, write_shard) -> None:
    path, cache = write_shard("x.parquet", [f"text number {i}" for i in range(300)]), tmp_path / "cache"
    packs, errors = [], []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        try:
            packs.append(pack_shard(path, cache=cache))
        except ShardError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len({tuple(p.tokens.tolist()) for p in packs}) == 1
    assert len(list(cache.iterdir())) == 1


def test_what_a_killed_packer_left_is_swept_up_later(tmp_path: Path, write_shard) -> None:
    import socket

    cache = tmp_path / "cache"
    dead = cache / f"{packing._TEMPORARY}{socket.gethostname()}-{2**22 + 1}-00000000"
    young = cache / f"{packing._TEMPORARY}{socket.gethostname()}-{2**22 + 2}-00000000"
    mine = cache / f"{packing._TEMPORARY}{socket.gethostname()}-{os.getpid()}-00000000"
    for folder in (dead, mine, young):
        folder.mkdir(parents=True)
        if folder != young:
            os.utime(folder, (0, 0))
    pack_shard(write_shard("x.parquet", ["one"]), cache=cache)
    assert not dead.exists() and young.exists() and mine.exists()


def test_meta_stands_for_itself(tmp_path: Path, write_shard) -> None:
    path = write_shard("x.parquet", ["one"])
    meta = json.loads((pack_shard(path, cache=tmp_path / "c").folder / "meta.json").read_text())
    assert meta["identity"]["path"] == str(path) and meta["encoding"] == "gpt2" and meta["column"] == "text"
