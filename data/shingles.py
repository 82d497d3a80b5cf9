"""Text → 64-bit hashes of word 5-grams and of lines, in Arrow and numpy kernels: no Python object per word.

A word is a run of letters, digits, underscores and non-ASCII characters, lower-cased; everything else parts words,
general punctuation of Unicode too. Scripts without blanks (Chinese, Japanese, Thai) are words of one character.
A line counts where it has words and at least ``LINE_BYTES``; its hash is that of its words and its length in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

NORMALISER = "lower, words of letters digits _ non-ascii, 3"  # changes whenever the hashes below would
WORDS = 5  # of a shingle, as FineWeb (Penedo et al. 2024)
LINE_BYTES = 40
SLICE = 1 << 19  # bytes worked on at once: its arrays stay in the cache
_LONG_WORD = 64  # a longer run is taken as several words

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_GENERATOR = np.random.Generator(np.random.PCG64(20240406))
_ODD = _GENERATOR.integers(1 << 63, 1 << 64, WORDS + 8, np.uint64) | np.uint64(1)
_PLACE, _LENGTH, _MIX, _MIX2, _STEP = _ODD[:WORDS], _ODD[-1], _ODD[-2], _ODD[-3], _ODD[-4]
_STEP_INVERSE = np.uint64(pow(int(_STEP), -1, 1 << 64))
_MASK = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
_S32, _S29 = np.uint64(32), np.uint64(29)


@dataclass(frozen=True)
class Hashes:
    """Of some documents, one after the other.

    Attributes:
        shingles: uint64 [all shingles, in order, repeated ones too]; document i has ``offsets[i]:offsets[i + 1]``.
        lines, line_bytes, line_documents: of the lines that count: hash, UTF-8 bytes, index of the document.
    """

    shingles: U64
    offsets: I64
    lines: U64
    line_bytes: I64
    line_documents: I64


def slices(texts: pa.LargeStringArray) -> Iterator[tuple[pa.LargeStringArray, int, bool]]:
    """The documents of an array without nulls, lower-cased, in arrays of about ``SLICE`` bytes.

    Yields (array, index of its first document, False); a document over twice that long comes as several arrays of one
    piece each, (piece, its index, True), that overlap by ``WORDS`` - 1 words. No more than a slice is copied at once.
    """
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    begin = 0
    while begin < len(texts):
        end = int(np.searchsorted(offsets, offsets[begin] + SLICE, side="right")) - 1
        if end <= begin:
            if offsets[begin + 1] - offsets[begin] > 2 * SLICE:
                yield from ((piece, begin, True) for piece in _pieces(texts, begin))
                begin += 1
                continue
            end = begin + 1
        yield pc.utf8_lower(texts.slice(begin, end - begin)), begin, False
        begin = end


def smallest_sets(texts: pa.LargeStringArray, kept: int) -> Iterator[tuple[U32, I64]]:
    """Each document's ``kept`` smallest distinct shingles (their upper halves), ascending, several documents at once.

    Yields (uint32 [all of theirs], int64 [documents], how many each has). Memory follows ``SLICE``, however long a
    document is.
    """
    longer: U32 | None = None
    previous = -1
    for array, first, piece in slices(texts):
        found = hash_slice(array)
        upper = found.shingles >> _S32
        if piece:
            alone = np.unique(upper.astype("<u4"))[:kept]
            if longer is not None and first == previous:
                longer = np.unique(np.concatenate((longer, alone)))[:kept]
                continue
        if longer is not None:
            yield longer, np.array([len(longer)], np.int64)
            longer = None
        if piece:
            longer, previous = alone, first
            continue
        # One sort for all: documents' numbers above, hashes below.
        upper |= np.repeat(np.arange(len(array), dtype=np.uint64) << _S32, np.diff(found.offsets))
        upper.sort()
        upper = upper[np.concatenate((np.ones(min(1, len(upper)), bool), upper[1:] != upper[:-1]))]
        owner = (upper >> _S32).astype(np.int64)
        begins = np.searchsorted(owner, np.arange(len(array) + 1))
        inside = np.arange(len(upper)) - begins[owner] < kept
        yield upper[inside].astype("<u4"), np.minimum(np.diff(begins), kept)
    if longer is not None:
        yield longer, np.array([len(longer)], np.int64)


def _pieces(texts: pa.LargeStringArray, index: int) -> Iterator[pa.LargeStringArray]:
    """One long document, lower-cased, in arrays of one piece each, cut at blanks; a piece repeats the last words before
    it."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)
    data = texts.buffers()[2]
    begin, stop = (int(offset) for offset in offsets[texts.offset + index : texts.offset + index + 2])
    raw = np.frombuffer(data, np.uint8)
    carried = b""
    while begin < stop:
        end = min(stop, begin + SLICE)
        if end < stop:
            low = max(begin + 1, end - (1 << 16))
            blanks = np.flatnonzero(raw[low:end] <= 32)
            if len(blanks):
                end = low + int(blanks[-1])
            else:  # no blank in 64 KiB: any character's first byte
                while end < stop and raw[end] & 0xC0 == 0x80:
                    end += 1
        lower = pc.utf8_lower(_one(data, begin, end))[0].as_buffer().to_pybytes()
        piece = carried + lower
        yield _one(pa.py_buffer(piece), 0, len(piece))
        carried = lower[_back(np.frombuffer(lower, np.uint8), 0, len(lower)) :]
        begin = end


def _one(data: pa.Buffer, begin: int, end: int) -> pa.LargeStringArray:
    """The bytes of a buffer from ``begin`` to ``end`` as an array of one text."""
    return pa.LargeStringArray.from_buffers(1, pa.array([begin, end], pa.int64()).buffers()[1], data)


def _back(raw: npt.NDArray[np.uint8], floor: int, end: int) -> int:
    """Where the last ``WORDS`` - 1 words before ``end`` begin."""
    low = max(floor, end - 4096)
    starts, _ = _word_spans(raw[low:end])
    if len(starts) < WORDS:
        return low if low == floor else end
    return low + int(starts[-(WORDS - 1)])


def hash_slice(array: pa.LargeStringArray) -> Hashes:
    """Hashes of lower-cased documents, as ``slices`` yields them."""
    # A newline behind each document parts it from the next.
    joined = pc.binary_join_element_wise(array, pa.scalar("", pa.large_string()), pa.scalar("\n", pa.large_string()))
    ends = np.frombuffer(joined.buffers()[1], np.int64)[joined.offset : joined.offset + len(joined) + 1]
    size = int(ends[-1] - ends[0])
    padded = np.zeros(size + 2 * _LONG_WORD, np.uint8)
    padded[:size] = np.frombuffer(joined.buffers()[2], np.uint8)[ends[0] : ends[-1]]
    ends = ends - ends[0]
    starts, lengths = _word_spans(padded[:size])
    words = _hash_words(padded, starts, lengths)
    at = np.searchsorted(starts, ends)
    shingles, offsets = _roll(words, at)
    return Hashes(shingles, offsets, *_lines(padded[:size], starts, words, ends))


def _word_spans(raw: npt.NDArray[np.uint8]) -> tuple[I64, I64]:
    """Byte offset and length of each word."""
    u = np.uint8
    letter = ((raw - u(97)) < u(26)) | ((raw - u(48)) < u(10)) | (raw == u(95))
    high = raw >= u(128)
    if not high.any():
        return _runs(letter)
    letter |= high
    alone = _classify(raw, letter, np.flatnonzero(high))
    if not len(alone):
        return _runs(letter)
    begins_alone = np.zeros(len(raw) + 3, bool)
    begins_alone[alone] = begins_alone[alone + 3] = True  # each parts itself from both sides
    before = np.concatenate(([False], letter[:-1]))
    begins = letter & (~before | begins_alone[: len(raw)])
    starts = np.flatnonzero(begins)
    ends = np.flatnonzero(np.concatenate((before & (~letter | begins), [bool(letter[-1])])))
    return _split_long(starts, ends - starts)


def _runs(letter: npt.NDArray[np.bool_]) -> tuple[I64, I64]:
    edges = np.flatnonzero(letter[1:] != letter[:-1]) + 1
    if len(letter) and letter[0]:
        edges = np.concatenate(([0], edges))
    if len(edges) % 2:
        edges = np.concatenate((edges, [len(letter)]))
    return _split_long(edges[::2], edges[1::2] - edges[::2])


def _classify(raw: npt.NDArray[np.uint8], letter: npt.NDArray[np.bool_], high: I64) -> I64:
    """Clear Unicode's punctuation and symbols in ``letter``; say where characters begin that are words of their own.

    ``high``: the places of bytes from 128 on.
    """
    lead, follow = raw[high], raw[np.minimum(high + 1, len(raw) - 1)]
    two = high[(lead == 0xC2) & (follow < 0xC0)]  # U+0080 … U+00BF
    three = high[((lead == 0xE2) & (follow <= 0xAF)) | ((lead == 0xE3) & (follow == 0x80))]
    for places, width in ((two, 2), (three, 3)):  # U+2000 … U+2BFF, U+3000 … U+303F
        for step in range(width):
            letter[np.minimum(places + step, len(raw) - 1)] = False
    # U+3040 … U+9FFF, and U+0E00 … U+0EFF
    asian = ((lead >= 0xE3) & (lead <= 0xE9) & ~((lead == 0xE3) & (follow == 0x80))) | (
        (lead == 0xE0) & (follow >= 0xB8) & (follow <= 0xBB)
    )
    return high[asian]


def _split_long(starts: I64, lengths: I64) -> tuple[I64, I64]:
    long = np.flatnonzero(lengths > _LONG_WORD)
    if not len(long):
        return starts, lengths
    more = (lengths[long] - 1) // _LONG_WORD  # pieces beyond the first
    within = np.arange(int(more.sum())) - np.repeat(np.cumsum(more) - more, more) + 1
    owner = np.repeat(long, more)
    extra = np.minimum(lengths[owner] - within * _LONG_WORD, _LONG_WORD)
    cut = np.minimum(lengths, _LONG_WORD)
    return np.insert(starts, owner + 1, starts[owner] + within * _LONG_WORD), np.insert(cut, owner + 1, extra)


def _hash_words(padded: npt.NDArray[np.uint8], starts: I64, lengths: I64) -> U64:
    """Eight bytes at a time: a multiply and a shift each."""
    eight = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))
    found: U64 = eight[starts]
    found &= _MASK[np.minimum(lengths, 8)]
    found += lengths.astype(np.uint64) * _LENGTH
    found *= _MIX
    found ^= found >> _S32
    longer, reach = np.flatnonzero(lengths > 8), 8
    while len(longer):
        more = eight[starts[longer] + reach] & _MASK[np.minimum(lengths[longer] - reach, 8)]
        more ^= found[longer]
        more *= _MIX2
        more ^= more >> _S29
        found[longer] = more
        reach += 8
        longer = longer[lengths[longer] > reach]
    return found


def _roll(words: U64, at: npt.NDArray[np.intp]) -> tuple[U64, I64]:
    """Shingles of documents whose words are ``words[at[i]:at[i + 1]]``."""
    counts = np.diff(at)
    offsets = np.zeros(len(at), np.int64)
    np.cumsum(np.maximum(counts - (WORDS - 1), 0), out=offsets[1:])
    total = len(words) - (WORDS - 1)
    if total <= 0 or not offsets[-1]:
        return np.zeros(0, np.uint64), np.zeros(len(at), np.int64)
    rolled = words[:total] * _PLACE[0]
    for place in range(1, WORDS):
        rolled += words[place : place + total] * _PLACE[place]
    rolled ^= rolled >> _S32
    rolled *= _MIX
    rolled ^= rolled >> _S29
    # Windows that reach into the next document go.
    inside = np.ones(total + WORDS, bool)
    for back in range(1, WORDS):
        inside[np.maximum(at[1:] - back, at[:-1])[counts > 0]] = False
    return rolled[inside[:total]], offsets


def _lines(raw: npt.NDArray[np.uint8], starts: I64, words: U64, ends: I64) -> tuple[U64, I64, I64]:
    """Hash, bytes and document of each line that is long enough and has words."""
    breaks = np.flatnonzero(raw == 10)
    begins = np.concatenate(([0], breaks[:-1] + 1)) if len(breaks) else breaks
    enough = breaks - begins >= LINE_BYTES
    begins, breaks = begins[enough], breaks[enough]
    first, last = np.searchsorted(starts, begins), np.searchsorted(starts, breaks)
    some = last > first
    begins, breaks, first, last = begins[some], breaks[some], first[some], last[some]
    if not len(begins):
        return np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    powers, inverses = _powers(len(words))
    sums = np.zeros(len(words) + 1, np.uint64)
    np.cumsum(words * powers, out=sums[1:])
    found = (sums[last] - sums[first]) * inverses[first]
    found += (breaks - begins).astype(np.uint64) * _LENGTH
    found ^= found >> _S32
    found *= _MIX2
    found ^= found >> _S29
    return found, breaks - begins, np.searchsorted(ends, begins, side="right") - 1


_POWERS: list[U64] = [np.ones(1, np.uint64), np.ones(1, np.uint64)]


def _powers(count: int) -> tuple[U64, U64]:
    """``_STEP`` and its inverse modulo 2^64, to the powers 0 … count - 1."""
    if len(_POWERS[0]) < count:
        size = 1 << max(16, count.bit_length())
        for which, step in enumerate((_STEP, _STEP_INVERSE)):
            column = np.full(size, step, np.uint64)
            column[0] = 1
            _POWERS[which] = np.multiply.accumulate(column)
    return _POWERS[0][:count], _POWERS[1][:count]
