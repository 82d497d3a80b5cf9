"""The same workbench in a real browser: headless Chromium opens the page, keys reach it, nothing comes from outside."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.browser import Browser
from tests.e2e.terminal import wait_until
from tests.workbench.folders import make_run
from workbench.export.files import write_summary
from workbench.runs.launch import environment

pytestmark = pytest.mark.e2e


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``gptbench --web`` on a folder with one run, and its address."""
    make_run(tmp_path / "runs", "seed-40m-20250615-150000", steps=800, stop="finished")
    words = [sys.executable, "-P", "-m", "workbench.cli", "--web", "--port", "0", "--runs", str(tmp_path / "runs")]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().split()[-1]
        process.terminate()


def workbenches(server: int) -> list[int]:
    """Processes that a server started."""
    try:
        return [int(pid) for pid in Path(f"/proc/{server}/task/{server}/children").read_text().split()]
    except OSError:
        return []


async def test_the_workbench_in_chromium(server: tuple[subprocess.Popen[str], str]) -> None:
    process, address = server
    async with Browser() as browser:
        await browser.open(address)
        await browser.wait_for(lambda: b"seed-40m" in browser.received and b"1 finished" in browser.received)
        assert await browser.value("document.querySelector('.starting').checkVisibility()") is False
        await browser.wait_for_colours(20)  # the table, not a dark page
        (bench,) = workbenches(process.pid)
        await browser.press("\r")
        await browser.wait_for(lambda: b"test CPU" in browser.received)
        await browser.press("m")
        await browser.wait_for(lambda: b"grad norm" in browser.received)
        assert await browser.value("document.fonts.check('16px \"Roboto Mono\"')")
        await browser.press("q")
        await browser.wait_for(lambda: not Path(f"/proc/{bench}").exists())
        for _ in range(100):
            if await browser.value("document.querySelector('.ended').checkVisibility()"):
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("the page does not say that the workbench is closed")
        outside = [url for url in browser.requests if urlsplit(url).netloc != urlsplit(address).netloc]
        assert not [url for url in outside if not url.startswith("data:")] and not browser.errors
        assert {urlsplit(url).scheme for url in browser.requests} >= {"http", "ws"}


async def test_a_workbench_whose_server_was_killed_ends(server: tuple[subprocess.Popen[str], str]) -> None:
    process, address = server
    async with Browser() as browser:
        await browser.open(address)
        await browser.wait_for(lambda: b"seed-40m" in browser.received)
        (bench,) = workbenches(process.pid)
        process.kill()
        process.wait()
        await asyncio.to_thread(wait_until, lambda: not Path(f"/proc/{bench}").exists())


async def test_an_exported_page_obeys_its_own_policy(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "runs", "seed <script>alert(1)", steps=300)
    written = write_summary(run_dir, formats=("html",))
    async with Browser() as browser:
        await browser.open(written[0].as_uri())
        await browser.wait_for_colours(20)
        assert await browser.value("document.querySelectorAll('svg[role=img]').length") == 3
        assert await browser.value("document.querySelector('h1').textContent") == run_dir.name
        assert await browser.value("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
        assert [*map(urlsplit, browser.requests)] == [urlsplit(written[0].as_uri())] and not browser.errors
