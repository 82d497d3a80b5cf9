from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from data import shingles
from data.shingles import hash_slice, slices, smallest_sets


def plain(text: str) -> list[tuple[str, ...]]:
    """The shingles of a text without scripts that need no blanks, said simply."""
    words = re.findall(r"[a-z0-9_]+", text.lower())
    return [tuple(words[i : i + 5]) for i in range(len(words) - 4)]


def arrow(*texts: str) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def shingle_sets(texts: pa.LargeStringArray) -> Iterator[np.ndarray]:
    """Each document's distinct shingles, ascending."""
    for values, lengths in smallest_sets(texts, 1 << 30):
        yield from np.split(values, np.cumsum(lengths)[:-1])


@given(st.lists(st.text("abAB1_ .,\n-é", max_size=80) | st.sampled_from(["", "a b c d", "a b c d e"]), max_size=8))
def test_equal_shingles_have_equal_hashes_and_no_others(texts: list[str]) -> None:
    texts = [text.replace("é", "e") for text in texts]
    sets = list(shingle_sets(arrow(*texts)))
    assert [len(s) for s in sets] == [len(set(plain(text))) for text in texts]
    for text, found in zip(texts, sets, strict=True):
        for other, theirs in zip(texts, sets, strict=True):
            assert len(np.intersect1d(found, theirs)) == len(set(plain(text)) & set(plain(other)))


def test_a_document_does_not_see_its_neighbours() -> None:
    texts = ["one two three four five six", "", "seven", "a b c d e f g", "eight nine ten eleven twelve"]
    together = list(shingle_sets(arrow(*texts)))
    for text, found in zip(texts, together, strict=True):
        assert np.array_equal(found, next(shingle_sets(arrow(text))))
    assert [len(s) for s in together] == [2, 0, 0, 3, 1]


def test_case_punctuation_and_blanks_do_not_matter_but_order_does() -> None:
    a, b, c = shingle_sets(
        arrow(
            "It's “one” — two\u00a0THREE; four_4 été", "it s one two three four_4 ÉTÉ", "it s two one three four_4 été"
        )
    )
    assert np.array_equal(a, b) and len(a) == 3 and not np.array_equal(a, c)


def test_scripts_without_blanks_are_words_of_one_character() -> None:
    a, b = shingle_sets(arrow("日本語の文章。これは試験です", "日本 語の文章 これは、試験です"))
    assert np.array_equal(a, b) and len(a) == 13 - 4
    (thai,) = shingle_sets(arrow("สวัสดีครับ"))
    assert len(thai) > 0


def test_a_long_document_in_pieces_has_the_shingles_of_the_whole(monkeypatch) -> None:
    generator = np.random.default_rng(5)
    text = " ".join(f"w{n}" for n in generator.integers(0, 5000, 30_000)) + " " + "x" * 1000 + " é日本" * 300
    whole = next(shingle_sets(arrow(text)))
    monkeypatch.setattr(shingles, "SLICE", 4096)
    array = arrow("before", text, "a b c d e", text)
    parts = list(slices(array))
    assert max(len(piece[0].as_py()) for piece, _, is_piece in parts if is_piece) < 2 * 4096
    found = list(shingle_sets(array))
    assert len(found) == 4 and np.array_equal(found[1], whole) and np.array_equal(found[3], whole)
    assert len(found[0]) == 0 and len(found[2]) == 1


def test_the_smallest_shingles_of_many_documents_at_once(monkeypatch) -> None:
    generator = np.random.default_rng(6)
    long = " ".join(f"w{n}" for n in generator.integers(0, 5000, 9000))
    texts = [
        "",
        "one two",
        long,
        "a b c d e f g " * 40,
        *(" ".join(map(str, range(i, i + 30))) for i in range(200)),
        long,
    ]
    monkeypatch.setattr(shingles, "SLICE", 4096)
    array = arrow(*texts)
    found = list(smallest_sets(array, 100))
    flat, lengths = np.concatenate([f for f, _ in found]), np.concatenate([n for _, n in found])
    hashes = [hash_slice(arrow(text)).shingles for text in texts]
    expected = [np.unique((h >> np.uint64(32)).astype(np.uint32))[:100] for h in hashes]
    assert lengths.tolist() == [len(e) for e in expected] and lengths[2] == lengths[-1] == 100
    assert np.array_equal(flat, np.concatenate(expected))


def test_one_word_of_megabytes() -> None:
    a, b = shingle_sets(arrow("x" * 3_000_000, "x" * 2_999_999 + "y"))
    assert len(np.setdiff1d(b, a)) >= 1  # its end is looked at


def test_lines_count_from_forty_bytes_with_words() -> None:
    line = "This notice is part of every page, and long enough."
    found = hash_slice(arrow(f"{line.lower()}\nshort\n{'-' * 60}\n{line.lower()}", f"x\n{line.lower()}\n"))
    assert found.line_documents.tolist() == [0, 0, 1] and len(set(found.lines.tolist())) == 1
    assert found.line_bytes.tolist() == [len(line)] * 3
