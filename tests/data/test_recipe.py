"""Recipes: read, refused, applied."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.catalogue import Catalogue
from data.choose import Choice, choose, write_keep
from data.packed import pack_shard
from data.recipe import Filters, HeldOut, Recipe, RecipeError, parse_text, read, save

WORDS = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
)


def document(seed: int, words: int = 120) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words)) + f" number {seed}"


def near(text: str) -> str:
    """A near copy: one word of many differs."""
    return text.replace(" number", " changed number", 1)


@pytest.fixture
def catalogue(write_shard) -> Catalogue:
    plain = [document(i) for i in range(60)]
    first = [*plain, None, ""]
    second = [plain[0], near(plain[1]), near(plain[2]), *(document(i) for i in range(100, 140))]
    write_shard(
        "s/a.parquet", first, score=[i / 10 for i in range(62)], language=["en"] * 31 + ["de"] * 31, counted=True
    )
    return Catalogue(
        [write_shard("s/b.parquet", second, score=[5.0] * 43, language=["en"] * 42 + [None], counted=True).parent]
    )


def rows(choice: Choice, split: int = 0) -> dict[str, list[int]]:
    return {Path(file).name: parts[split].tolist() for file, parts in choice.rows.items()}


def texts(catalogue: Catalogue, choice: Choice, split: int) -> list[str]:
    return [
        catalogue.document(file, int(row)) or ""
        for file in catalogue.files
        for row in choice.rows.get(file.path, ([], []))[split]
    ]


def test_filters_and_deduplication(catalogue: Catalogue) -> None:
    none = choose(parse_text('[held_out]\napart = "exact"'), catalogue, held_out=False)
    assert (none.train_documents, none.unique_documents, none.effective_tokens) == (103, 102, None)
    exact = choose(parse_text('deduplicate = "exact"'), catalogue, held_out=False)
    assert (exact.train_documents, exact.unique_documents, exact.effective_documents) == (102, 102, 100)
    both = choose(parse_text('deduplicate = "near"'), catalogue, held_out=False)
    assert both.train_documents == 100 and rows(both)["b.parquet"] == list(range(3, 43))
    assert both.train_tokens == both.effective_tokens == both.stages[-1].tokens
    assert [(stage.name, stage.documents) for stage in both.stages] == [
        ("with text", 103), ("exact copies once", 102), ("near copies once", 100),
    ]  # fmt: skip
    assert both.epochs(2.0 * both.train_tokens) == (2.0, 2.0)


def test_a_copy_is_kept_where_the_first_one_does_not_pass(catalogue: Catalogue) -> None:
    recipe = parse_text('deduplicate = "near"\n[filter]\nmin_score = 2.0\nlanguage = "en"')
    choice = choose(recipe, catalogue, held_out=False)
    assert rows(choice)["a.parquet"] == list(range(20, 31))
    assert rows(choice)["b.parquet"] == list(range(42))  # rows 0, 1, 2 stand in for copies that did not pass; null: out


def test_lengths_and_conditions(catalogue: Catalogue) -> None:
    counts = [row["token_count"] for row in catalogue.page(catalogue.files[0], 0, 60)]
    low = sorted(counts)[30]
    choice = choose(
        parse_text(f'[filter]\nmin_tokens = {low}\nwhere = ["score < 6"]\n[held_out]\napart = "exact"'),
        catalogue,
        held_out=False,
    )
    assert rows(choice)["a.parquet"] == [i for i, n in enumerate(counts) if n >= low]
    assert choice.tokens_note == "tokens counted"
    with pytest.raises(RecipeError, match="none of 103 documents passes"):
        choose(parse_text("[filter]\nmax_characters = 10"), catalogue)


@pytest.mark.parametrize("mode", ["none", "exact", "near"])
def test_no_near_copy_of_a_held_out_document_is_trained_on(catalogue: Catalogue, mode: str) -> None:
    recipe = Recipe(deduplicate=mode, held_out=HeldOut(fraction=0.4))
    choice = choose(recipe, catalogue)
    kept = choice.stages[-1].documents
    assert choice.held_out_documents + choice.train_documents == kept
    assert abs(choice.held_out_documents - 0.4 * kept) <= 2
    assert (choice.leaked_documents, choice.near_leaked_documents) == (0, 0)
    train, held = texts(catalogue, choice, 0), texts(catalogue, choice, 1)
    assert not set(train) & set(held) and not {near(t) for t in train} & set(held)
    assert not {near(t) for t in held} & set(train)


def test_leakage_is_measured_not_assumed(catalogue: Catalogue) -> None:
    """Held apart by exact copies alone, some near copies end on both sides, and that is reported."""
    recipe = Recipe(deduplicate="near", held_out=HeldOut(documents=30, apart="exact"))
    assert choose(recipe, catalogue).near_leaked_documents == 0  # one of each cluster is left
    loose = Recipe(held_out=HeldOut(fraction=0.5, apart="exact"))
    assert choose(loose, catalogue).near_leaked_documents is None  # not looked for


def test_the_split_depends_on_texts_alone(catalogue: Catalogue, write_shard) -> None:
    recipe = Recipe(deduplicate="exact", held_out=HeldOut(documents=10))
    first = sorted(texts(catalogue, choose(recipe, catalogue), 1))
    everything = [catalogue.document(f, i) for f in catalogue.files for i in range(f.rows)]
    random.Random(3).shuffle(everything)
    count = len(everything)
    path = write_shard("other/x.parquet", everything, score=[1.0] * count, language=["en"] * count)
    with Catalogue([path]) as other:
        assert sorted(texts(other, choose(recipe, other), 1)) == first and len(first) == 10


def test_a_file_that_cannot_be_judged_is_named(write_shard, tmp_path: Path) -> None:
    write_shard("s/a.parquet", [document(i) for i in range(20)], score=[1.0] * 20)
    write_shard("s/b.parquet", [document(i) for i in range(20, 40)])
    write_shard("s/c.parquet", [document(i) for i in range(40, 60)], score=["high"] * 20)
    (tmp_path / "s" / "d.parquet").write_bytes(b"")
    with Catalogue([tmp_path / "s"]) as catalogue:
        choice = choose(parse_text("[filter]\nmin_score = 0.5"), catalogue)
        errors = {Path(e.file).name: e.error for e in choice.errors}
        assert sorted(errors) == ["b.parquet", "c.parquet", "d.parquet"]
        assert "no column 'score'" in errors["b.parquet"] and "no numbers" in errors["c.parquet"]
        assert choice.train_documents + choice.held_out_documents == 20
        with pytest.raises(RecipeError, match="no column 'scores'; did you mean score"):
            choose(parse_text('[filter]\nmin_score = 1\nscore_column = "scores"'), catalogue)


def test_the_keep_list_says_all(catalogue: Catalogue, tmp_path: Path) -> None:
    choice = choose(Recipe(deduplicate="near"), catalogue)
    path = tmp_path / "keep.parquet"
    write_keep(choice, "the text", path)
    table = pq.read_table(path)
    assert table.column_names == ["file", "row", "split"] and table["row"].type == pa.int64()
    assert len(table) == choice.train_documents + choice.held_out_documents
    about = json.loads(table.schema.metadata[b"gptbench"])
    assert about["recipe"] == "the text" and about["effect"]["train_tokens"] == choice.train_tokens
    assert [f["path"] for f in about["files"]] == [f.path for f in catalogue.files]


recipes = st.builds(
    Recipe,
    deduplicate=st.sampled_from(["none", "exact", "near"]),
    filter=st.builds(
        Filters,
        min_score=st.none() | st.floats(-5, 2),
        max_score=st.none() | st.floats(2, 9),
        language=st.lists(st.text(), max_size=3).map(tuple),
        source_column=st.text(min_size=1),
        min_tokens=st.none() | st.integers(0, 9),
        where=st.just(("a > 1 and b ~ x",)) | st.just(()),
    ),
    held_out=st.one_of(
        st.builds(HeldOut, fraction=st.floats(0.001, 0.9)),
        st.builds(HeldOut, documents=st.integers(1, 99)),
        st.just(HeldOut()),
    ),
)


@given(recipes)
def test_what_is_written_is_read_again(recipe: Recipe) -> None:
    assert parse_text(recipe.to_toml()) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dedup = 'near'", "did you mean deduplicate?"),
        ("[filter]\nmin_scor = 1", "did you mean filter.min_score?"),
        ("[filters]\nmin_score = 1", "did you mean filter?"),
        ("min_score = 1", "did you mean filter.min_score?"),
        ("deduplicate = 'fuzzy'", "use none, exact, near"),
        ("[filter]\nmin_score = 'x'", "must be a number"),
        ("[filter]\nmin_tokens = 1.5", "must be a whole number"),
        ("[filter]\nmin_tokens = true", "must be a whole number"),
        ("[filter]\nlanguage = [1]", "must be a list of texts"),
        ("[filter]\nmin_score = 3\nmax_score = 2", "no document passes"),
        ("[filter]\nwhere = ['score']", "column operator value"),
        ("[held_out]\nfraction = 2.0", "between 0 and 1"),
        ("[held_out]\nfraction = 0.1\ndocuments = 3", "not both"),
        ("[held_out]\napart = 'far'", "use exact, near"),
        ("filter = 3", "is a section"),
        ("[filter", "not valid TOML"),
    ],
)
def test_a_wrong_recipe_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message.replace("?", r"\?")) as error:
        read(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_saved_and_read(tmp_path: Path) -> None:
    recipe = Recipe("near", Filters(min_score=2.5, language=("en",)), HeldOut(documents=7))
    save(recipe, tmp_path / "r.toml")
    assert read(tmp_path / "r.toml") == recipe and [p.name for p in tmp_path.iterdir()] == ["r.toml"]
    with pytest.raises(RecipeError, match="no such recipe"):
        read(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match="cannot be written"):
        save(recipe, tmp_path / "none" / "r.toml")


def test_packs_are_refused_with_the_parquet_file_to_name(tmp_path: Path, write_shard) -> None:
    shard = write_shard("x.parquet", ["one", "two"])
    pack = pack_shard(shard, cache=tmp_path / "cache")
    for path in (pack.folder, pack.folder.parent):
        with Catalogue([path]) as catalogue, pytest.raises(RecipeError) as refused:
            choose(parse_text(""), catalogue)
        line = str(refused.value)
        assert line.startswith(f"{path}: ") and "name the parquet files" in line and str(shard) in line
        assert "\n" not in line
