"""Who is let in to the workbench in a browser: by HTTP and by websocket, on loopback and beyond."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer

from tests.workbench.test_cli import gptbench
from workbench.runs.launch import environment
from workbench.web import WebServer, is_loopback, user_of

TOKEN = "a-token-that-nobody-guesses"
DOORS = ("/", "/ws", "/keys.js", "/static/js/textual.js", "/download/x", "/nothing")
Client = TestClient[aiohttp.web.Request, aiohttp.web.Application]
Serve = Callable[..., Awaitable[Client]]


@pytest_asyncio.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    """``await served(token)``: a client of the workbench on an empty runs folder."""
    for key, value in environment().items():
        monkeypatch.setenv(key, value)
    clients: list[Client] = []

    async def serve(token: str = "") -> Client:
        words = [sys.executable, "-P", "-m", "workbench.cli", "--runs", str(tmp_path / "runs")]
        server = WebServer(f"exec {shlex.join(words)}", token)
        clients.append(TestClient(TestServer(await server.make_app()), cookie_jar=aiohttp.CookieJar(unsafe=True)))
        await clients[-1].start_server()
        return clients[-1]

    yield serve
    for client in clients:
        await client.close()


async def test_the_page_is_whole_and_a_workbench_paints_into_its_websocket(served: Serve) -> None:
    client = await served()
    page = await client.get("/")
    text = await page.text()
    assert page.status == 200 and "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert not re.search(r"(?i)(src|href|url)\W{1,3}(https?:)?//", text)  # nothing from elsewhere
    for part in re.findall(r'(?:src|href)="(/[^"]+\.[a-z]+)"', text):
        assert (await client.get(part)).status == 200, part
    async with client.ws_connect("/ws?width=100&height=30", origin=str(client.make_url("")).rstrip("/")) as page_socket:
        painted = b""
        while b"no runs in" not in painted:
            message = await page_socket.receive(60)
            assert message.type == aiohttp.WSMsgType.BINARY, message
            painted += message.data
        await page_socket.send_json(["stdin", "q"])
        async for message in page_socket:
            painted += message.data  # until the workbench has ended, and its page is closed
    assert b"lists every key" in painted


@pytest.mark.parametrize("door", DOORS)
async def test_another_site_does_not_get_in(served: Serve, door: str) -> None:
    client = await served()
    for headers in (
        {"Host": "evil.example"},  # DNS rebinding: its name now means 127.0.0.1
        {"Host": "localhost.evil.example:80"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://localhost:{(client.port or 0) + 1}"},  # another program of this machine
    ):
        answer = await client.get(door, headers=headers)
        assert answer.status == 403 and (await answer.text()).startswith("gptbench: "), headers
    if door == "/ws":
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await client.ws_connect("/ws", origin="http://evil.example")


@pytest.mark.parametrize("door", DOORS)
async def test_with_a_token_nothing_is_served_without_it(served: Serve, door: str) -> None:
    client = await served(TOKEN)
    for given in ({}, {"token": ""}, {"token": TOKEN[:-1]}, {"token": "ü"}):
        assert (await client.get(door, params=given)).status == 403
    wrong = {f"gptbench-{client.port}": "x"}
    assert (await client.get(door, cookies=wrong)).status == 403
    if door == "/ws":
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await client.ws_connect("/ws")


async def test_a_token_goes_from_the_address_into_a_cookie(served: Serve) -> None:
    client = await served(TOKEN)
    away = await client.get("/", params={"token": TOKEN}, allow_redirects=False)
    assert away.status == 303 and away.headers["Location"] == "/"
    assert "HttpOnly" in away.headers["Set-Cookie"] and "SameSite=Lax" in away.headers["Set-Cookie"]
    assert (await client.get("/")).status == 200
    elsewhere = {"Origin": "http://evil.example"}
    assert (await client.get("/ws", headers=elsewhere)).status == 403  # the cookie alone does not do
    async with client.ws_connect("/ws") as page:
        assert (await page.receive(60)).type == aiohttp.WSMsgType.BINARY


async def test_a_workbench_that_cannot_start_leaves_no_page_waiting() -> None:
    client: Client = TestClient(TestServer(await WebServer("exit 3").make_app()))
    await client.start_server()
    async with client.ws_connect("/ws") as page:
        assert (await page.receive(30)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    await client.close()


def test_names_of_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.0.1", "::1", "[::1]", "LOCALHOST.", "a.localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "", "localhost.evil.example", "127.0.0.1.nip.io")))


def test_the_user_behind_a_connection(tmp_path: Path) -> None:
    if Path("/proc/net/tcp").exists():
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            assert user_of(client.getsockname()[1], server.getsockname()[1]) == {os.getuid()}
    row = "   0: 0100007F:{:04X} 0100007F:1F40 {} 00000000:00000000 00:00000000 00000000 {} 0 1 1 0 20 4 30 10 -1\n"
    table = tmp_path / "tcp"
    table.write_text("  sl  local_address\n" + row.format(9, "01", 1234) + row.format(10, "05", 0))
    assert user_of(9, 8000, [table]) == {1234} and user_of(10, 8000, [table]) == set()
    assert user_of(9, 8000, [tmp_path / "none"]) is None


def test_a_wider_binding_makes_a_token_and_ends_on_a_signal(tmp_path: Path) -> None:
    words = [sys.executable, "-P", "-m", "workbench.cli", "--web", "--host", "0.0.0.0", "--port", "0", "--runs", "r"]
    with subprocess.Popen(
        words, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        found = re.search(r"http://0\.0\.0\.0:(\d+)/\?token=([\w-]{20,})", server.stdout.readline())
        assert found

        async def asked() -> list[int]:
            async with aiohttp.ClientSession() as session:
                address = f"http://127.0.0.1:{found[1]}/"
                queries: list[dict[str, str]] = [{}, {"token": "x" * 32}, {"token": found[2]}]
                return [(await session.get(address, params=query)).status for query in queries]

        assert asyncio.run(asked())[:2] == [403, 403]
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = gptbench("--web", "--port", str(taken.getsockname()[1]), "--runs", tmp_path)
    short = gptbench("--web", "--token", "short", "--runs", tmp_path)
    lone = gptbench("--port", "9000", "--runs", tmp_path)
    assert (busy.returncode, short.returncode, lone.returncode) == (1, 2, 2)
    for said, words in ((busy, "--port"), (short, "can be guessed"), (lone, "--web")):
        assert words in said.stderr and len(said.stderr.splitlines()) == 1
