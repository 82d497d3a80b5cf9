from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.encoding import load
from data.packed import Pack
from workbench.cli import main

KEYS = {
    *("files", "rows", "bytes", "tokens", "tokens_basis", "exact_duplicate_rows", "near_duplicate_rows"),
    *("effective_tokens", "effective_tokens_low", "effective_tokens_high", "errors"),
}


def test_stats_as_json(write_shard, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_shard("x.parquet", ["one", "two", "two"], counted=True)
    assert main(["data", "stats", str(path), "--json"]) == 0
    shown = capsys.readouterr()
    answer = json.loads(shown.out)
    assert set(answer) >= KEYS and shown.err == ""
    assert (answer["rows"], answer["tokens"], answer["exact_duplicate_rows"]) == (3, 3, 1)
    assert answer["near_duplicate_rows"] == 0 and answer["effective_tokens"] == 2 and "worth" not in answer
    assert answer["by_file"][0]["file"] == str(path) and answer["unique_tokens"] == 2


def test_stats_name_what_failed_and_answer_the_rest(
    tmp_path: Path, write_shard, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shard("good.parquet", ["one"])
    (tmp_path / "bad\x1b[31m[bold].parquet").write_bytes(b"")
    assert main(["data", "stats", str(tmp_path), str(tmp_path / "gone"), "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["files"] == 1 and len(json.loads(shown.out)["errors"]) == 2
    assert len(shown.err.splitlines()) == 2 and "\x1b" not in shown.err and "[bold]" in shown.err


def test_the_table_is_readable_at_80_columns(
    tmp_path: Path, write_shard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for index in range(25):
        write_shard(f"[red]{index}\x1b[2J.parquet", ["a document of some words " * 40, "one"])
    assert main(["data", "stats", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80 and "\x1b" not in shown and "…" not in shown.split("more")[0][:-12]
    assert "[red]3␛[2J.parquet" in shown and "5 more: --json has all" in shown
    assert "near duplicates" in shown and "effective tokens" in shown and "boilerplate" in shown


def test_nothing_readable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and "no *.parquet" in shown.err


def test_pack_says_where_the_packs_lie(tmp_path: Path, write_shard, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = write_shard("good.parquet", ["one", "two", None]), write_shard("bad.parquet", ["one"])
    bad.write_bytes(bad.read_bytes()[:50])
    out = tmp_path / "out"
    arguments = ["data", "pack", str(good), str(bad), "-o", str(out)]
    assert main([*arguments, "--json"]) == 1
    shown = capsys.readouterr()
    answer = json.loads(shown.out)
    assert (answer["documents"], answer["tokens"]) == (2, 4) and "bad.parquet" in shown.err
    assert Pack.open(answer["packs"][0]["folder"]).documents == 2
    assert main(arguments[:3] + arguments[4:]) == 0
    assert str(out) in capsys.readouterr().out


def test_pack_with_what_is_not_there(write_shard, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write_shard("x.parquet", ["one"]))
    assert main(["data", "pack", path, "--encoding", "gtp2"]) == 1
    assert capsys.readouterr().err.count("known: ") == 1
    assert main(["data", "pack", path, "--column", "body"]) == 1
    assert "it has text, id" in capsys.readouterr().err


def test_sql_answers_and_refuses(tmp_path: Path, write_shard, capsys: pytest.CaptureFixture[str]) -> None:
    write_shard("s/a.parquet", ["one \x1b[31m[red]", "two", None])
    (tmp_path / "s" / "bad.parquet").write_bytes(b"PAR1")
    path = str(tmp_path / "s")
    assert main(["data", "sql", path, "-q", "SELECT text FROM docs ORDER BY 1", "--json", "--limit", "2"]) == 1
    shown = capsys.readouterr()
    answer = json.loads(shown.out)
    assert answer["rows"] == [["one \x1b[31m[red]"], ["two"]] and answer["capped"] is True
    assert answer["columns"] == [{"name": "text", "type": "VARCHAR"}] and "bad.parquet" in shown.err
    (tmp_path / "s" / "bad.parquet").unlink()
    assert main(["data", "sql", path, "-q", "SELECT text, 7 AS n FROM docs"]) == 0
    shown = capsys.readouterr()
    assert "one ␛[31m[red]" in shown.out and "\x1b" not in shown.out and "null" in shown.out and "3 rows" in shown.err
    out = tmp_path / "out.parquet"
    assert main(["data", "sql", path, "-q", "FROM docs", "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": 3, "file": str(out)}
    assert main(["data", "stats", str(out), "--json"]) == 0  # an export is a shard again
    capsys.readouterr()
    assert main(["data", "sql", path, "-q", "DROP VIEW docs"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_recipe_is_previewed_and_packed(tmp_path: Path, write_shard, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f"document number {i} of some words that differ {i * i} from one to the next one" for i in range(40)]
    shard = str(write_shard("a.parquet", [*texts, texts[3], None], counted=True))
    recipe = tmp_path / "r.toml"
    recipe.write_text('deduplicate = "exact"\n[held_out]\ndocuments = 5\n')
    plan = ["--set", "model.block_size=64", "--set", "train.max_steps=10"]
    assert main(["data", "recipe", str(recipe), shard, "--json", *plan]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["train_documents"], answer["held_out_documents"], answer["leaked_documents"]) == (35, 5, 0)
    assert answer["epochs"] == answer["planned_tokens"] / answer["train_tokens"]
    assert main(["data", "recipe", str(recipe), shard, *plan]) == 0
    assert "epochs" in capsys.readouterr().out
    out = tmp_path / "packs"
    assert main(["data", "pack", shard, "--recipe", str(recipe), "-o", str(out), "--json"]) == 0
    packs = {entry["split"]: Pack.open(entry["folder"]) for entry in json.loads(capsys.readouterr().out)["packs"]}
    assert (packs["train"].documents, packs["heldout"].documents) == (35, 5)
    rows = [*packs["train"].rows.tolist(), *packs["heldout"].rows.tolist()]
    assert sorted(rows) == list(range(40))
    for split in packs.values():
        for index, row in enumerate(split.rows):
            assert load().decode(split.document(index)[:-1].tolist()) == texts[row]
    assert main(["data", "pack", shard, "--recipe", str(recipe), "-o", str(out)]) == 1
    assert "holds packs already" in capsys.readouterr().err
    recipe.write_text("dedupe = 1")
    assert main(["data", "recipe", str(recipe), shard]) == 1
    assert "did you mean deduplicate?" in capsys.readouterr().err
