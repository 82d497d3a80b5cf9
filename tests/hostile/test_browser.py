"""The workbench in headless Chromium (``--web``): what was planted reaches the page as text of its terminal alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.browser import Browser
from tests.hostile.payloads import PAYLOADS, on_a_screen, reached
from tests.hostile.table import Counted
from tests.hostile.world import DOORS, build
from workbench.runs.launch import environment

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]
# Elements of the page but for the terminal's own, and what a script of ours would have changed.
_STATE = "[document.title, document.scripts.length, document.querySelectorAll('img, iframe, a, link').length].join()"


@pytest.mark.parametrize("name", PAYLOADS, ids=str)
async def test_a_page(name: str, tmp_path: Path, counted: Counted) -> None:
    w = build(tmp_path / "w", PAYLOADS[name])
    words = [sys.executable, "-P", "-m", "workbench.cli", "--web", "--port", "0", "--runs", str(w.runs)]
    with subprocess.Popen(
        [*words, "--data", str(w.shards)], env=environment(), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1]
            async with Browser() as browser:
                await browser.open(address)
                await browser.wait_for(lambda: b"qzfiq" in browser.received)
                before = await browser.value(_STATE)
                await browser.press_until("\r", lambda: b"qztxq" in browser.received)  # once the shards are listed
                await browser.press("4")
                await browser.wait_for(lambda: b"qzrnq" in browser.received)
                after = await browser.value(_STATE)
                outside = [
                    url for url in browser.requests if urlsplit(url).netloc not in ("", urlsplit(address).netloc)
                ]
                received = browser.received.decode("utf-8", "replace")
                moved = after != before or bool(outside) or bool(browser.errors)
                for door in reached(received, list(DOORS)):
                    detail = (name, before, after, outside, browser.errors)
                    counted.add(door, "--web", moved or on_a_screen(received, door), detail)
        finally:
            server.terminate()
