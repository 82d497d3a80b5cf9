"""The workbench in a browser: textual-serve runs a workbench of its own for every page; here stands who is let in.

A page is full control of the workbench, so of this user's files and GPUs. Hence:

- It listens on loopback, where the ``Host`` must name loopback (else another site could reach it by DNS rebinding) and,
  on Linux, the connection must come from a process of this user: the machine may have other users.
- Any wider binding needs a token, given with the first address and kept in a cookie; so does loopback if one is given.
- A browser's ``Origin`` must be the page's own: websockets are not held back by the same-origin policy.
- The page loads nothing from elsewhere (textual-serve's own page asks Google for a font), and may not be framed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import html
import ipaddress
import os
import secrets
import shlex
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler
from textual_serve.app_service import AppService
from textual_serve.server import Server, to_int

from workbench.errors import UserError
from workbench.runs.launch import environment

MOST = 16  # workbenches at once, a process each
SHORTEST = 16  # characters of a token
PATIENCE = 5.0  # seconds that a workbench has to quit
PROC_NET = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED = "01"
_FONT = "/static/fonts/RobotoMono-VariableFont_wght.ttf"
_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><link rel="icon" href="data:,">
<link rel="preload" href="{font}" as="font" type="font/ttf" crossorigin>
<link rel="stylesheet" href="/static/css/xterm.css">
<style>
@font-face {{ font-family: "Roboto Mono"; src: url("{font}"); font-weight: 100 700; }}
html, body {{ margin: 0; height: 100%; overflow: hidden; background: #121212; color: #e0e0e0; }}
body {{ font-family: "Roboto Mono", monospace; }}
#terminal {{ position: absolute; inset: 0; }}
.notice {{ position: absolute; inset: 0; z-index: 10; display: flex; align-items: center; justify-content: center; }}
.-first-byte .starting, .ended {{ display: none; }}
.-closed .ended {{ display: flex; background: #121212; }}
a {{ color: inherit; }}
</style>
<script src="/static/js/textual.js"></script><script src="/keys.js"></script></head>
<body><p class="notice starting">gptbench is starting …</p>
<p class="notice ended">The workbench is closed; runs go on.&nbsp;<a href="/">Open it again</a></p>
<div id="terminal" class="textual-terminal" data-session-websocket-url="{socket}" data-font-size="{size}"></div>
</body></html>
"""
# textual-serve's script makes the terminal on load, yet keys reach it only once it has been clicked.
_KEYS = "addEventListener('load', () => document.querySelector('.xterm-helper-textarea').focus());\n"


def is_loopback(host: str) -> bool:
    """Whether a name or address, as a binding or in a ``Host`` header without its port, is this machine alone."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return False


def user_of(client: int, server: int, tables: Sequence[Path] = PROC_NET) -> set[int] | None:
    """The users whose sockets are connected from port ``client`` to port ``server`` of this machine; None where the
    system does not say. Only open connections: of one that is being closed, the kernel no longer knows the user."""
    users, read = set(), False
    for table in tables:
        try:
            lines = table.read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        read = True
        for local, remote, state, user in ((f[1], f[2], f[3], f[7]) for f in map(str.split, lines)):
            if state == _ESTABLISHED and (_port(local), _port(remote)) == (client, server):
                users.add(int(user))
    return users if read else None


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


class WebServer(Server):
    """Serves ``command``, a shell line that opens the workbench.

    Args:
        token: what a request must carry; "" lets in whom loopback lets in.
    """

    def __init__(self, command: str, token: str = "") -> None:
        super().__init__(command, title="gptbench")
        self.token = token
        self._open: set[web.WebSocketResponse] = set()

    async def make_app(self) -> web.Application:
        """textual-serve's routes behind the guard."""
        app = await self._make_app()
        app.router.add_get("/keys.js", self._keys)
        app.middlewares.append(self._guard)
        app.on_response_prepare.append(self._harden)
        return app

    async def on_startup(self, app: web.Application) -> None:
        """Nothing to say here: the address was printed when the port was bound."""

    async def on_shutdown(self, app: web.Application) -> None:
        """Let the pages know, and their workbenches end."""
        for page in list(self._open):
            await page.close(code=1001)
        async with asyncio.timeout(3 * PATIENCE):
            while self._open:
                await asyncio.sleep(0.02)

    def refusal(self, request: web.Request) -> str | None:
        """Why a request is not let in; None if it is."""
        host = request.host.rpartition(":")[0] if ":" in request.host.rpartition("]")[2] else request.host
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            return "this page belongs to another site"
        if self.token:
            given = (request.query.get("token"), request.cookies.get(_cookie(request)))
            return None if any(map(self._is_token, given)) else "open the address that gptbench printed, with its token"
        if not is_loopback(host):
            return "without a token only localhost is served"
        peer, own = (request.get_extra_info(name) for name in ("peername", "sockname"))
        users = user_of(peer[1], own[1]) if peer and own else None
        if users is not None and not (users and users <= {os.getuid(), 0}):
            return "this workbench is another user's: start your own"
        return None

    def _is_token(self, text: str | None) -> bool:
        return text is not None and hmac.compare_digest(text.encode(errors="replace"), self.token.encode())

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if why := self.refusal(request):
            return web.Response(status=403, text=f"gptbench: {why}\n")
        return await handler(request)

    async def _harden(self, request: web.Request, response: web.StreamResponse) -> None:
        socket_origin = f"ws://{request.host} wss://{request.host}"
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; "
            f"img-src 'self' data:; connect-src 'self' {socket_origin}; "
            "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"

    async def _keys(self, request: web.Request) -> web.Response:
        return web.Response(text=_KEYS, content_type="text/javascript")

    async def handle_index(self, request: web.Request) -> web.Response:
        """The page; a token in its address becomes a cookie, and leaves the address."""
        if self.token and "token" in request.query:
            away = web.Response(status=303, headers={"Location": "/"})
            away.set_cookie(_cookie(request), self.token, httponly=True, samesite="Lax", path="/")
            return away
        scheme = "wss" if request.headers.get("X-Forwarded-Proto", request.scheme) == "https" else "ws"
        address = html.escape(f"{scheme}://{request.host}/ws")
        size = max(6, min(40, to_int(request.query.get("fontsize", "16"), 16)))
        page = _PAGE.format(title="gptbench", font=_FONT, socket=address, size=size)
        return web.Response(text=page, content_type="text/html", headers={"Cache-Control": "no-store"})

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """One page: a workbench starts with it and ends with it, whoever of the two goes first."""
        page = web.WebSocketResponse(heartbeat=15)
        await page.prepare(request)
        if len(self._open) >= MOST:
            await page.close(code=1013, message=b"too many pages are open")
            return page
        self._open.add(page)
        width, height = (
            max(1, min(1000, to_int(request.query.get(name, ""), usual)))
            for name, usual in (("width", 80), ("height", 24))
        )

        async def close() -> None:
            await page.close()

        bench = AppService(
            self.command,
            write_bytes=page.send_bytes,
            write_str=page.send_str,
            close=close,
            download_manager=self.download_manager,
        )
        try:
            await bench.start(width, height)
            if bench._task is not None:  # a workbench that cannot start leaves no page that waits for it
                bench._task.add_done_callback(lambda _: asyncio.ensure_future(close()))
            await self._process_messages(page, bench)
        finally:
            await asyncio.shield(asyncio.create_task(self._end(page, bench)))
        return page

    async def _end(self, page: web.WebSocketResponse, bench: AppService) -> None:
        """Ask a workbench to quit, and see to it that its process ends."""
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(bench.stop(), PATIENCE)
            if (process := bench._process) is not None:
                bench.stdin.close()
                try:
                    await asyncio.wait_for(process.wait(), PATIENCE)
                except TimeoutError:
                    process.kill()
                    await process.wait()
        finally:
            self._open.discard(page)


def serve(arguments: Sequence[str], host: str, port: int, token: str | None) -> None:
    """Serve ``gptbench ARGUMENTS`` until SIGINT or SIGTERM; pages end then, runs go on.

    Args:
        port: 0 takes a free one.
        token: given by the person; None: one is made if ``host`` is more than loopback.

    Raises:
        UserError: a token that is too short; an address that cannot be bound.
    """
    if token is not None and len(token) < SHORTEST:
        raise UserError(f"a token of {len(token)} characters can be guessed: give at least {SHORTEST}, or none", 2)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        raise UserError(f"{host}:{port} cannot be served ({said}): choose another --port or --host") from None
    wide = not is_loopback(listener.getsockname()[0])
    token = token or (secrets.token_urlsafe(24) if wide else "")
    os.environ.update(environment())
    os.environ.pop("GPTBENCH_TOKEN", None)  # what is started from here need not know it
    command = shlex.join([sys.executable, "-P", "-m", "workbench.cli", *arguments])
    server = WebServer(f"exec {command}", token)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}/" + (f"?token={token}" if token else "")
    print(f"the workbench is at {address}", flush=True)
    if wide:
        print("the line is not encrypted; safer: loopback here, and ssh -L from there", file=sys.stderr)
    print("ctrl+c ends it; runs go on", file=sys.stderr)
    web.run_app(server.make_app(), sock=listener, print=None, access_log=None, shutdown_timeout=5.0)


def _cookie(request: web.Request) -> str:
    """A name of its own for each port: cookies do not tell ports apart."""
    return f"gptbench-{request.host.rpartition(':')[2]}"
