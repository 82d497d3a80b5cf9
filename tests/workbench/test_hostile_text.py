"""Text from elsewhere is data: through whatever door, it has no effect on a terminal, a screen or a report."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from textual.app import App
from textual.events import Paste
from textual.widgets import Static

from tests.workbench.conftest import Wait
from tests.workbench.folders import NOW, make_run
from workbench.app import GptbenchApp
from workbench.cli import main
from workbench.widgets.line import Line
from workbench.widgets.table import Table

PAYLOADS = {
    "colour": "\x1b[31mred",
    "clear": "\x1b[2J\x1b[H",
    "c1": "\x9b31m\x9d0;t\x9c",
    "clipboard": "\x1b]52;c;aGFja2Vk\x07",
    "title": "\x1b]0;owned\x07",
    "link": "\x1b]8;;http://evil.example\x1b\\x\x1b]8;;\x1b\\",
    "bidi": "a\u202etxt.exe",
    "return": "safe\r\nTL;DR nothing is wrong",
    "rich": "[red]x[/red] [/] [link=http://evil.example]y[/link]",
    "textual": "[@click=app.quit]quit[/] $text [$error]z[/]",
    "markdown": "# x ![p](http://evil.example/p.png) [y](javascript:1) `c` | a |",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)><!--",
}  # fmt: skip
# What steers a terminal: controls but for newline and tab, escapes, C1, overrides of direction.
STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
payloads = pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)


def as_file_name(text: str) -> str:
    """As much of a text as a file name can hold."""
    return text.replace("/", "⁄").replace("\0", "")[:120]


def plant(base: Path, payload: str) -> tuple[Path, Path, Path]:
    """Shards, a runs folder and a log that hold a payload wherever there is text: (shard, runs, log)."""
    shard = base / "shards" / f"{as_file_name(payload)}.parquet"
    shard.parent.mkdir(parents=True)
    pq.write_table(pa.table({"text": [payload, "plain words"] * 4, payload: ["x", payload] * 4}), shard)
    run_dir = make_run(base / "runs", f"demo {as_file_name(payload)}", steps=120, log=f"{payload}\n")
    with (run_dir / "events.jsonl").open("a", encoding="utf-8") as file:
        for event in (
            {"event": "warning", "time": NOW, "step": 120, "text": payload},
            {"event": "sample", "time": NOW, "step": 120, "prompt": payload, "text": payload},
            {"event": "stop", "time": NOW, "step": 120, "reason": payload, "text": payload},
        ):
            file.write(json.dumps(event) + "\n")
    (run_dir / "note.txt").write_text(payload, "utf-8")
    config = (run_dir / "config.toml").read_text()
    quoted = json.dumps(f"/{payload}.parquet").replace("\x7f", "\\u007f")
    (run_dir / "config.toml").write_text(re.sub(r"(?m)^paths = .*$", lambda _: f"paths = [{quoted}]", config))
    log = base / f"{as_file_name(payload)}.csv"
    rows = "".join(f"{step},{5 - step / 40:.3f},{payload if step % 7 == 0 else 0.001}\n" for step in range(1, 60))
    log.write_text(f"step,loss,lr,{payload}\n{rows}", "utf-8")
    return shard, run_dir.parent, log


TAGS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "strong", "em", "code", "ul", "ol", "li",
    "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
SVG_TAGS = {"svg", "title", "rect", "text", "path", "circle"}
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "start", "xmlns", "width", "height", "viewbox", "role",
    "font-family", "font-size", "font-weight", "fill", "x", "y", "d", "stroke", "stroke-width", "stroke-linejoin",
    "stroke-linecap", "opacity", "text-anchor", "cx", "cy", "r",
}  # fmt: skip


def only_ours(text: str, *, page: bool) -> None:
    """No element, attribute, comment or declaration of an HTML page or an SVG file comes from data."""

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag in (TAGS | SVG_TAGS if page else SVG_TAGS), tag
            for key, value in attrs:
                assert key in ATTRIBUTES, (tag, key)
                assert key != "class" or value == "right"
                assert "http" not in (value or "") or key in ("http-equiv", "xmlns")

        def handle_comment(self, data: str) -> None:
            raise AssertionError(data)

        def handle_decl(self, decl: str) -> None:
            assert page and decl == "DOCTYPE html"

        handle_pi = unknown_decl = handle_comment

    Reader().feed(text)
    if page:
        assert text.count("<style>") == text.count("<title>") - text.count("<svg xmlns") == 1
        assert text.index("Content-Security-Policy") < text.index("<title>")
    else:
        ElementTree.fromstring(text)  # well formed


@payloads
def test_a_plain_terminal_and_a_report(
    payload: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shard, runs, log = plant(tmp_path, payload)
    run = next(path.name for path in runs.iterdir())
    for arguments in (
        ["data", "stats", str(shard)],
        ["data", "sql", str(shard), "-q", "FROM docs"],
        ["data", "sql", str(shard), "-q", payload],
        ["runs", "--runs", str(runs)],
        ["explain", run, "--runs", str(runs)],
        ["explain", str(log)],
        ["explain", payload, "--runs", str(runs)],
        ["export", run, "--runs", str(runs), "--html"],
        ["export", str(log), "--fact", f"optimizer={payload}"],
        ["export", str(log), "--fact", f"optimizer={payload}", "--html", "-o", str(tmp_path / "log.html")],
        ["import", str(log), "--runs", str(runs), "--name", payload],
        ["train", payload, "--runs", str(tmp_path / "none")],
        ["train", str(shard), "--set", f"optim.lr={payload}"],
        ["branch", run, "--from-step", "3", "--runs", str(runs)],
    ):
        code = main(arguments)
        shown = capsys.readouterr()
        assert code in (0, 1, 2), arguments
        assert not STEERS.search(shown.out + shown.err), arguments
        assert "Traceback" not in shown.err and "error of gptbench itself" not in shown.err, (arguments, shown.err)
    for summary in runs.glob("*/summary.md"):
        text = re.sub(r"(?s)```text.*?```", "", summary.read_text("utf-8"))
        assert not STEERS.search(text) and not re.search(r"<(script|img|!--)", text)
        assert not re.search(r"(?<!\\)\]\((http|javascript)", text)
    pages, charts = [*runs.glob("*/summary.html"), tmp_path / "log.html"], list(runs.glob("*/summary-*.svg"))
    assert list(runs.glob("*/summary.md")) and len(pages) == 2 and len(charts) == 3
    for file in (*pages, *charts):
        text = file.read_text("utf-8")
        assert not STEERS.search(text)
        only_ours(text, page=file.suffix == ".html")


@payloads
async def test_the_screens(payload: str, here: Path, until: Wait) -> None:
    shard, runs, _ = plant(here, payload)
    run_dir = next(runs.iterdir())
    app = GptbenchApp(runs, data_paths=[str(shard.parent)], clock=lambda: NOW)
    async with app.run_test(size=(110, 30)) as pilot:
        await until(pilot, lambda: app.screen.query_one("#shards", Table).row_count == 1)
        await pilot.press("enter")
        await pilot.pause(0.2)
        assert not STEERS.search(app.export_screenshot())
        app.open_run(run_dir)
        await until(pilot, lambda: app.current_mode == "run")
        await pilot.pause(0.2)
        assert not STEERS.search(app.export_screenshot())
        await pilot.press("4")
        await until(pilot, lambda: app.current_mode == "runs" and app.screen.query_one(Table).row_count == 1)
        assert not STEERS.search(app.export_screenshot())
        assert app.is_running and all(not STEERS.search(str(s.content)) for s in app.screen.query(Static))


@payloads
async def test_a_line_to_type_into(payload: str) -> None:
    """What is pasted is shown escaped, and taken as it is."""
    app: App[None] = App()
    async with app.run_test() as pilot:
        line = Line()
        await app.mount(line)
        line.focus()
        line.post_message(Paste(payload))
        await pilot.pause()
        assert line.value == payload.splitlines()[0]
        assert not STEERS.search(app.export_screenshot())
