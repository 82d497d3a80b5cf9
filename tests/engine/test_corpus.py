from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.packed import Pack
from engine.corpus import Documents, _groups, split, unique_documents
from tests.engine.conftest import texts_of


def texts(documents: Documents) -> list[bytes]:
    """Each document's tokens, as bytes to compare by."""
    return [documents.read(i).tobytes() for i in range(len(documents))]


def test_no_copy_on_both_sides(pack_of: Callable[..., Pack]) -> None:
    distinct = texts_of(80)
    packs = [pack_of(distinct[:50] + distinct[:30], "a"), pack_of(distinct[20:], "b")]
    parts = split(Documents.of(packs), fraction=0.2)
    train, held = texts(parts.train), texts(parts.held_out)
    assert not set(train) & set(held)
    assert len(train) + len(held) == 140
    assert len(set(held)) == len(parts.held_out_unique) == math.ceil(0.2 * 80)
    assert len(set(train)) == len(parts.unique) == 64
    assert parts.leaked == 0


def test_the_split_is_by_content_alone(pack_of: Callable[..., Pack]) -> None:
    distinct = texts_of(40)
    one = split(Documents.of([pack_of(distinct, "a")]), fraction=0.1)
    other = split(Documents.of([pack_of(distinct[30:], "b"), pack_of(distinct[:30] * 2, "c")]), fraction=0.1)
    assert texts(one.held_out_unique) == texts(other.held_out_unique)
    assert texts(one.unique) == texts(other.unique)


def test_given_held_out_documents_and_their_leaks(pack_of: Callable[..., Pack]) -> None:
    distinct = texts_of(20)
    parts = split(Documents.of([pack_of(distinct[:15], "a")]), Documents.of([pack_of(distinct[10:] * 2, "b")]))
    assert (len(parts.train), len(parts.held_out), len(parts.held_out_unique), parts.leaked) == (15, 20, 10, 10)


def test_one_document_is_held_out_at_least(pack_of: Callable[..., Pack]) -> None:
    parts = split(Documents.of([pack_of(texts_of(3))]), fraction=1e-6)
    assert (len(parts.train), len(parts.held_out)) == (2, 1)


def test_nothing_left_is_an_error(pack_of: Callable[..., Pack]) -> None:
    with pytest.raises(ValueError, match="train"):
        split(Documents.of([pack_of(["one and the same"] * 9)]))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_groups_are_equal_hashes(pairs: list[tuple[int, int]]) -> None:
    hashes = np.array(pairs, np.uint64).reshape(-1, 2)
    order, group = _groups(hashes)
    assert sorted(order) == list(range(len(pairs)))
    by_group: dict[int, set[tuple[int, int]]] = {}
    for i, g in zip(order, group, strict=True):
        by_group.setdefault(int(g), set()).add(pairs[i])
    assert all(len(found) == 1 for found in by_group.values())
    assert len(by_group) == len(set(pairs))


def test_unique_keeps_one_of_each(pack_of: Callable[..., Pack]) -> None:
    documents = Documents.of([pack_of(["a", "b", "a", "c", "b", "a"])])
    assert sorted(texts(unique_documents(documents))) == sorted(set(texts(documents)))
