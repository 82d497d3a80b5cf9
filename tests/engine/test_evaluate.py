from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from data.packed import Pack
from engine import evaluate
from engine.config import resolve
from engine.corpus import Documents, unique_documents
from engine.model import GPT
from engine.prepare import byte_lengths
from tests.engine.conftest import texts_of

EOT, BLOCK = 50256, 32


def eval_set(documents: Documents, cap: int = 10_000) -> evaluate.EvalSet:
    lengths = byte_lengths("gpt2", 50304)
    return evaluate.build("heldout", documents, block=BLOCK, cap=cap, eot=EOT, byte_lengths=lengths)


def run(model: GPT, data: evaluate.EvalSet, batch: int = 3) -> evaluate.Evaluation:
    result = evaluate.evaluate(model.eval(), data, batch=batch, device=torch.device("cpu"), autocast=nullcontext)
    assert result is not None
    return result


@pytest.fixture
def model() -> GPT:
    return GPT(resolve(sets=["model.preset=demo-1m", "model.n_embd=16", "model.n_head=2", "model.n_layer=1",
                             f"model.block_size={BLOCK}", "model.dropout=0.5"]).model)  # fmt: skip


def test_every_token_is_counted_once(pack_of: Callable[..., Pack]) -> None:
    documents = unique_documents(Documents.of([pack_of(texts_of(9))]))
    data = eval_set(documents)
    kept = data.targets.flatten().numpy() != -1
    expected = np.concatenate([documents.read(i) for i in range(9)])
    assert (data.targets.flatten().numpy()[kept] == expected).all()
    assert (np.bincount(data.owner[kept]) == documents.lengths).all()
    stream = np.concatenate([[EOT], expected])
    assert (data.tokens.flatten().numpy()[kept] == stream[:-1]).all()


def test_long_documents_are_cut_and_what_follows_starts_behind_a_separator(pack_of: Callable[..., Pack]) -> None:
    documents = unique_documents(Documents.of([pack_of(texts_of(5, longest=40))]))
    data = eval_set(documents, cap=7)
    assert (data.document_tokens == np.minimum(documents.lengths, 7)).all()
    tokens, targets = data.tokens.flatten().numpy(), data.targets.flatten().numpy()
    for d in range(5):
        first = np.flatnonzero((data.owner == d) & (targets != -1))[0]
        assert tokens[first] == EOT
        assert targets[first] == documents.read(d)[0]


def test_losses_of_documents_are_those_of_the_windows(pack_of: Callable[..., Pack], model: GPT) -> None:
    documents = unique_documents(Documents.of([pack_of(texts_of(9))]))
    data = eval_set(documents)
    result = run(model, data)
    with torch.no_grad():
        logits = model(data.tokens)
    kept = data.targets.flatten() != -1
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1)[kept], data.targets.flatten()[kept], reduction="none"
    ).numpy()
    owner = data.owner[kept.numpy()]
    for d in range(9):
        assert result.losses[d] == pytest.approx(losses[owner == d].mean(), rel=1e-5)
    assert result.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert run(model, data).loss == result.loss, "dropout is off"
    assert run(model, data, batch=2).loss == pytest.approx(result.loss, rel=1e-6)
    text = sum(len(t.encode()) for t in texts_of(9))
    assert data.target_bytes is not None and data.target_bytes.sum() == text
    assert result.bits_per_byte == pytest.approx(losses[data.targets.flatten()[kept] != EOT].sum() / math.log(2) / text)


def test_the_standard_error_is_that_of_a_bootstrap_over_documents() -> None:
    r = np.random.default_rng(0)
    tokens = r.lognormal(5, 1.5, 400).astype(np.int64) + 1
    means = 3.5 + 0.5 * r.standard_normal(400) - 0.1 * np.log(tokens)
    sums = means * tokens
    level, se = evaluate.mean_and_error(sums, tokens)
    assert level == pytest.approx(sums.sum() / tokens.sum())
    draws = r.integers(0, 400, (4000, 400))
    assert se == pytest.approx((sums[draws].sum(1) / tokens[draws].sum(1)).std(), rel=0.15)


def test_the_standard_error_covers_the_truth() -> None:
    r = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        tokens = r.geometric(0.01, 60)
        sums = tokens * (3 + 0.4 * r.standard_normal(60))
        level, se = evaluate.mean_and_error(sums, tokens)
        covered += abs(level - 3) < 1.96 * se
    assert 0.88 < covered / 400 < 0.98


def test_one_document_has_no_standard_error() -> None:
    assert math.isnan(evaluate.mean_and_error(np.array([6.0]), np.array([2]))[1])


def test_a_sample_is_fixed_and_distinct(pack_of: Callable[..., Pack]) -> None:
    unique = unique_documents(Documents.of([pack_of(texts_of(30))]))
    one, same, other = (evaluate.sample(unique, 10, seed) for seed in (1, 1, 2))
    assert (one.hashes == same.hashes).all() and (one.hashes != other.hashes).any()
    assert len({tuple(h) for h in one.hashes.tolist()}) == 10
    assert len(evaluate.sample(unique, 99, 1)) == 30


def test_files(tmp_path: Path, pack_of: Callable[..., Pack], model: GPT) -> None:
    data = eval_set(unique_documents(Documents.of([pack_of(texts_of(4))])))
    result = run(model, data)
    evaluate.write_set(tmp_path, data)
    evaluate.write_losses(tmp_path, "heldout", 12, result)
    losses, tokens = np.load(tmp_path / "heldout-00000012.npy"), np.load(tmp_path / "heldout-tokens.npy")
    assert losses.dtype == np.float32 and tokens.dtype == np.int64
    assert (losses * tokens).sum() / tokens.sum() == pytest.approx(result.loss, rel=1e-6)
    assert (np.load(tmp_path / "heldout-documents.npy") == data.hashes).all()
    assert not list(tmp_path.glob(".*"))
