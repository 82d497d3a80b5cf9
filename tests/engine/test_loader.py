from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.packed import Pack, pack_shard
from engine.corpus import Documents
from engine.loader import Batches
from engine.order import TokenStream
from tests.engine.conftest import texts_of, write_shard

EOT = 50256


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    folder = tmp_path_factory.mktemp("loader")
    packs: list[Pack] = []
    for name, seed in (("a", 1), ("b", 2)):
        shard = write_shard(folder / f"{name}.parquet", texts_of(40, seed))
        packs.append(pack_shard(shard, cache=folder / "cache"))
    return Documents.of(packs)


def cut(tokens: np.ndarray) -> list[bytes]:
    """Documents of a stretch of stream that begins and ends with one."""
    return [piece.tobytes() for piece in np.split(tokens, np.flatnonzero(tokens == EOT) + 1) if len(piece)]


@given(seed=st.integers(0, 2**63), epoch=st.integers(0, 5))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_document_once_an_epoch(documents: Documents, seed: int, epoch: int) -> None:
    stream = TokenStream(documents, seed)
    tokens = stream.read(epoch * stream.epoch_tokens, stream.epoch_tokens)
    expected = [documents.read(i).astype(np.int64).tobytes() for i in range(len(documents))]
    assert sorted(cut(tokens)) == sorted(expected)


def test_epochs_and_seeds_differ(documents: Documents) -> None:
    stream, other = TokenStream(documents, 1), TokenStream(documents, 2)
    n = stream.epoch_tokens
    assert (stream.read(0, n) != stream.read(n, n)).any()
    assert (stream.read(0, n) != other.read(0, n)).any()
    assert (stream.read(0, n) == TokenStream(documents, 1).read(0, n)).all()


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_access_equals_sequential(documents: Documents, data: st.DataObject) -> None:
    stream = TokenStream(documents, 7)
    whole = TokenStream(documents, 7).read(0, 3 * stream.epoch_tokens)
    for _ in range(4):
        begin = data.draw(st.integers(0, len(whole) - 1))
        count = data.draw(st.integers(1, len(whole) - begin))
        assert (stream.read(begin, count) == whole[begin : begin + count]).all()


@given(seed=st.integers(0, 2**63), block=st.integers(1, 700))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shuffled_sequences_tile_the_stream(documents: Documents, seed: int, block: int) -> None:
    stream = TokenStream(documents, seed)
    count = -(-2 * stream.epoch_tokens // block)  # those that begin in the first two epochs, seam and all
    whole = stream.read(0, count * block + 1)
    expected = sorted(whole[i * block : (i + 1) * block + 1].tobytes() for i in range(count))
    assert sorted(stream.sequence(i, block).tobytes() for i in range(count)) == expected
    at = count // 2
    assert (TokenStream(documents, seed).sequence(at, block) == stream.sequence(at, block)).all()


def test_a_giant_document_does_not_fill_whole_batches(pack_of: Callable[..., Pack]) -> None:
    stream = TokenStream(Documents.of([pack_of(["giant " * 4000, *texts_of(400)])]), 1)
    giant = stream.documents.read(0)[0], stream.documents.read(0)[1]
    batches = stream.epoch_tokens // (8 * 32)
    share = [np.isin(stream.batch(i * 8 * 32, 8, 32)[0], giant).mean() for i in range(batches)]
    assert np.std(share) < 0.25, "in stream order nearly every batch is all or nothing of it: 0.5"


def test_batches_are_the_shuffled_sequences(documents: Documents) -> None:
    stream, other = TokenStream(documents, 3), TokenStream(documents, 3)
    device = torch.device("cpu")
    steps = 2 * stream.epoch_tokens // 128
    with Batches(stream, position=0, batch=4, block=32, device=device) as batches:
        for step, (tokens, targets) in zip(range(steps), batches, strict=False):
            for row in range(4):
                expected = other.sequence(4 * step + row, 32)
                assert (tokens[row].numpy() == expected[:-1]).all() and (targets[row].numpy() == expected[1:]).all()
    with Batches(stream, position=5 * 128, batch=4, block=32, device=device) as batches:
        assert (next(batches)[0][0].numpy() == other.sequence(20, 32)[:-1]).all()
    assert batches.waited > 0


def test_epoch_is_exact(documents: Documents) -> None:
    stream = TokenStream(documents, 0)
    assert stream.epoch(0) == 0 and stream.epoch(3 * stream.epoch_tokens) == 3.0


def test_a_corpus_shorter_than_a_sequence(pack_of: Callable[..., Pack]) -> None:
    stream = TokenStream(Documents.of([pack_of(["one", "two"])]), 0)
    tokens = stream.read(0, 10 * stream.epoch_tokens)
    assert len(cut(tokens)) == 20


def test_an_error_in_the_thread_reaches_the_loop(documents: Documents) -> None:
    stream = TokenStream(documents, 0)

    def broken(position: int, batch: int, block: int) -> np.ndarray:
        raise OSError(5, "Input/output error")

    stream.batch = broken  # type: ignore[method-assign]
    with Batches(stream, position=0, batch=1, block=8, device=torch.device("cpu")) as batches, pytest.raises(OSError):
        next(batches)
