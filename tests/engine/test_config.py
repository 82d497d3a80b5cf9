"""Configuration: precedence, round trip, and errors that name the key and the mend."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import config
from engine.config import Config, ConfigError, resolve


def test_the_order_is_preset_file_set(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[model]\npreset = "seed-40m"\nn_layer = 5\n[optim]\nlr = 0.5\n[schedule]\nmin_lr = 0.1\n')
    made = resolve(file, ["optim.lr=0.25", "optim.lr=0.125"])
    assert (made.model.n_embd, made.model.n_layer, made.optim.lr) == (384, 5, 0.125)


def test_the_seeds_model_by_its_preset() -> None:
    model = resolve(sets=["model.preset=seed-40m"]).model
    assert (model.n_layer, model.n_embd, model.vocab_size, model.bias) == (12, 384, 50304, False)


@pytest.mark.parametrize("preset", config.PRESETS)
def test_a_written_configuration_reads_back_unchanged(preset: str, tmp_path: Path) -> None:
    made = resolve(sets=[f"model.preset={preset}", "train.epochs=2.5", "data.paths=['a', 'b']"])
    (tmp_path / "config.toml").write_text(made.to_toml())
    assert config.load(tmp_path / "config.toml") == made


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), max_size=30), max_size=4))
def test_any_path_survives_toml(paths: list[str]) -> None:
    import tomllib

    assert tomllib.loads(Config().replace(data={"paths": tuple(paths)}).to_toml())["data"]["paths"] == paths


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("model.n_layers", "model.n_layer"),
        ("optim.learning_rate", "optim.lr"),
        ("batch_size", "train.micro_batch"),
        ("schedul.min_lr", "schedule.min_lr"),
        ("eval.evry", "eval.every"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {nearest}"):
        resolve(sets=[f"{key}=1"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model.n_layer=x", "model.n_layer must be a whole number"),
        ("model.n_layer=0", "above 0"),
        ("train.seed=9007199254740992", r"train.seed must be a whole number below 2\^53"),
        ("train.max_steps=1e300", r"train.max_steps must be a whole number below 2\^53"),
        ("train.epochs=1e300", "a million at most"),
        ("model.n_head=7", "not divisible"),
        ("model.dropout=1.5", "dropout"),
        ("model.preset=gpt5", "known: "),
        ("optim.lr=nan", "finite"),
        ("optim.lr=true", "a number"),
        ("schedule.kind=cosin", "known: cosine"),
        ("schedule.min_lr=1", "above optim.lr"),
        ("data.val_fraction=0", "val_fraction"),
        ("train.epochs=-1", "above 0"),
        ("optim.betas=[0.9]", "two numbers"),
        ("optim.lr", "key=value"),
    ],
)
def test_an_impossible_value_is_one_clear_line(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        resolve(sets=[text])
    assert "\n" not in str(caught.value)


@given(st.dictionaries(st.text(string.printable, max_size=12), st.text(string.printable, max_size=12), max_size=3))
def test_wild_sets_resolve_or_say_why(sets: dict[str, str]) -> None:
    try:
        resolve(sets=[f"{k}={v}" for k, v in sets.items()])
    except ConfigError as error:
        assert str(error)


@given(st.binary(max_size=200))
def test_wild_files_resolve_or_say_why(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "c.toml"
        file.write_bytes(content)
        try:
            resolve(file)
        except ConfigError as error:
            assert str(error)


def test_decay_ends_with_the_run_unless_said() -> None:
    assert resolve(sets=["train.max_steps=70"]).decay_steps == 70
    assert resolve(sets=["train.max_steps=70", "schedule.decay_steps=30"]).decay_steps == 30


def test_every_field_has_help() -> None:
    for section in config.SECTIONS:
        assert all(field.metadata["help"] for field in config.fields_of(section).values())
