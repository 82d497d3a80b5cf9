"""A real browser: headless Chromium, driven over its DevTools protocol. Keys go in; pixels and traffic come out."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import struct
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
    "--window-size=1200,800",
)  # fmt: skip


class Browser:
    """One Chromium with one page. ``requests``: every address it asked for; ``received``: what websockets brought."""

    def __init__(self) -> None:
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        assert program, "needs chromium: apt-get install chromium"
        self._folder = tempfile.TemporaryDirectory(prefix="gptbench-chromium-", ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self._folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.received = b""
        self._number = self._loaded = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def __aenter__(self) -> Self:
        port_file = Path(self._folder.name) / "DevToolsActivePort"
        await self.wait_for(lambda: port_file.is_file() and port_file.read_text().count("\n") >= 1, 60)
        port = port_file.read_text().splitlines()[0]
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            page = next(target for target in await answer.json() if target["type"] == "page")
        self._socket = await self._session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
        self._reader = asyncio.create_task(self._read())
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.ask(f"{domain}.enable")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
        await self._session.close()
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; its result."""
        self._number += 1
        number, self._answers[self._number] = self._number, asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(self._answers[number], 60)
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self, address: str) -> None:
        """Go to a page, and wait until it is there."""
        loaded = self._loaded
        await self.ask("Page.navigate", url=address)
        await self.wait_for(lambda: self._loaded > loaded)

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression gives in the page."""
        answer = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def press(self, *characters: str) -> None:
        """Type; "\\r" is enter."""
        for character in characters:
            name = {"\r": "Enter", "\x1b": "Escape"}.get(character, character)
            code = {"\r": 13, "\x1b": 27}.get(character, ord(character.upper()))
            keys = {"key": name, "windowsVirtualKeyCode": code, "nativeVirtualKeyCode": code}
            text = {} if character == "\x1b" else {"text": character}
            await self.ask("Input.dispatchKeyEvent", type="keyDown", **keys, **text)
            await self.ask("Input.dispatchKeyEvent", type="keyUp", **keys)

    async def press_until(self, character: str, condition: Callable[[], object], seconds: float = 60) -> None:
        """Type a key again every few seconds: what it acts on may not be there yet."""
        deadline = time.monotonic() + seconds
        while not condition():
            await self.press(character)
            with contextlib.suppress(AssertionError):
                await self.wait_for(condition, min(5.0, max(0.0, deadline - time.monotonic())))
            assert condition() or time.monotonic() < deadline, f"pressed {character!r} for {seconds} s in vain"

    async def screenshot(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode((await self.ask("Page.captureScreenshot", format="png"))["data"])

    async def wait_for(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process.poll() is None, "chromium has ended"
            assert time.monotonic() < deadline, f"waited {seconds} s; errors: {self.errors}; {self.received[-2000:]!r}"
            await asyncio.sleep(0.1)

    async def wait_for_colours(self, many: int, seconds: float = 60) -> None:
        """Wait until the page shows at least so many colours: blank pages have few, text has many."""
        deadline = time.monotonic() + seconds
        while (found := colours(await self.screenshot())) < many:
            assert time.monotonic() < deadline, f"only {found} colours; errors: {self.errors}"
            await asyncio.sleep(0.5)

    async def _read(self) -> None:
        async for message in self._socket:
            event = message.json()
            if "id" in event:
                if (future := self._answers.pop(event["id"], None)) is not None and not future.done():
                    future.set_result(event)
                continue
            given = event.get("params", {})
            if event["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                self.requests.append(given["request"]["url"] if "request" in given else given["url"])
            elif event["method"] == "Network.webSocketFrameReceived":
                payload = given["response"]["payloadData"]
                self.received += base64.b64decode(payload) if given["response"]["opcode"] == 2 else payload.encode()
            elif event["method"] == "Page.loadEventFired":
                self._loaded += 1
            elif event["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(given["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and given["entry"]["level"] == "error":
                self.errors.append(f"{given['entry'].get('text')} {given['entry'].get('url')}")


def colours(png: bytes) -> int:
    """How many colours a PNG of 8 bits a channel shows (PNG specification, 2nd edition, section 9: filters)."""
    width, height, _, kind = struct.unpack(">IIBB", png[16:26])
    channels, at, packed = {2: 3, 6: 4}[kind], 8, b""
    while at < len(png):
        size, name = struct.unpack(">I4s", png[at : at + 8])
        packed += png[at + 8 : at + 8 + size] if name == b"IDAT" else b""
        at += size + 12
    raw, length, before, seen = zlib.decompress(packed), width * channels, bytes(width * channels), set()
    for line in range(height):
        begin = line * (length + 1)
        how, row = raw[begin], bytearray(raw[begin + 1 : begin + 1 + length])
        for i in range(length if how else 0):
            left, up = row[i - channels] if i >= channels else 0, before[i]
            corner = before[i - channels] if i >= channels else 0
            if how == 4:
                guess = min((left, up, corner), key=lambda v, p=left + up - corner: abs(p - v))  # type: ignore[misc]
            else:
                guess = (0, left, up, (left + up) // 2)[how]
            row[i] = (row[i] + guess) & 255
        before = bytes(row)
        seen.update(before[i : i + channels] for i in range(0, length, channels))
    return len(seen)
